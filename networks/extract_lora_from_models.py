"""Extract a LoRA from the difference between two models: `python networks/extract_lora_from_models.py --model_org a.safetensors …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.errors import UserError
from library.options.reading.parse import parse
from library.options.rules.declared_paths import own_input_faults
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import ExtractLora


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(ExtractLora, argv)
    chosen, output = options.extract, options.output
    check_paths(options)
    if faults := [*own_input_faults(options, "save_to")]:  # a LoRA never takes a model's place
        raise UserError(*faults)

    from library.console import progress
    from library.surgery.checkpoint import open_checkpoint
    from library.surgery.device import usable_device
    from library.surgery.extract import ExtractSettings, extracted_metadata, plan_extraction
    from library.surgery.network_file import DTYPES
    from library.surgery.write import write_lora

    settings = ExtractSettings(
        chosen.dim,
        chosen.conv_dim,
        chosen.min_diff,
        chosen.clamp_quantile,
        usable_device(chosen.device),
        None if chosen.load_precision is None else DTYPES[chosen.load_precision],
        usable_device(chosen.load_original_model_to, "--load_original_model_to"),
        usable_device(chosen.load_tuned_model_to, "--load_tuned_model_to"),
        chosen.v_parameterization,
    )
    original = open_checkpoint(chosen.model_org, "--model_org", chosen.v2)
    tuned = open_checkpoint(chosen.model_tuned, "--model_tuned", chosen.v2)
    extraction = plan_extraction(original, tuned, settings)
    write_lora(
        progress(extraction.modules(), total=len(extraction.keys), label="extracting", unit="module"),
        output.save_to,
        DTYPES[output.save_precision or "float"],
        None if output.no_metadata else extracted_metadata(original, tuned, settings),
        "‖extracted − difference of the models‖ / ‖difference‖",
        options.receipt.verbose,
        options.receipt.max_error,
        note=lambda module: module.note(),
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
