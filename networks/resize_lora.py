"""Make a LoRA smaller: `python networks/resize_lora.py --model a.safetensors --new_rank 8 --save_to b.safetensors …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import ResizeLora


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(ResizeLora, argv)
    chosen, output = options.resize, options.output
    check_paths(options)
    _check_dynamic(chosen.dynamic_method, chosen.dynamic_param)

    from library.console import progress
    from library.lora.bundled.carry import carried
    from library.surgery import resize
    from library.surgery.device import usable_device
    from library.surgery.network_file import DTYPES, open_network
    from library.surgery.write import write_lora

    device = usable_device(chosen.device)
    network = open_network(chosen.model, "--model")
    network.only_lora()
    conv_rank = chosen.new_conv_rank or chosen.new_rank
    settings = resize.ResizeSettings(chosen.new_rank, conv_rank, chosen.dynamic_method, chosen.dynamic_param or 0.0, device)
    write_lora(
        progress(resize.resized(network, settings), total=len(network.modules), label="resizing", unit="module"),
        output.save_to,
        DTYPES[output.save_precision or "float"],
        None if output.no_metadata else {**network.metadata, "ss_training_comment": resize.describe(network, settings)},
        "‖resized − original‖ / ‖original‖",
        options.receipt.verbose,
        options.receipt.max_error,
        note=lambda module: module.note(),
        extra=carried([network.file]),
    )


def _check_dynamic(method: str | None, parameter: float | None) -> None:
    if method is None:
        if parameter is not None:
            raise UserError(coded("OPT-009", "--dynamic_param: has no effect without --dynamic_method; add that, or remove this"))
        return
    if parameter is None:
        raise UserError(
            coded("OPT-009", f"--dynamic_method {method}: needs --dynamic_param, such as {'20' if method == 'sv_ratio' else '0.9'}")
        )
    if method == "sv_ratio" and parameter < 2:
        raise UserError(
            coded("OPT-006", f"--dynamic_param {parameter:g}: sv_ratio divides the largest singular value by it; use 2 or more")
        )
    if method in ("sv_cumulative", "sv_fro") and not 0 <= parameter <= 1:
        raise UserError(coded("OPT-006", f"--dynamic_param {parameter:g}: is a fraction for {method}; use 0 to 1, such as 0.9"))


if __name__ == "__main__":
    sys.exit(run_script(main))
