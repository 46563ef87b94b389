"""Extract LoRAs of chosen ranks from a DyLoRA: `python networks/extract_lora_from_dylora.py --model dy.safetensors …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import ExtractDylora


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(ExtractDylora, argv)
    chosen = options.extract
    check_paths(options)
    if bool(chosen.rank) == (chosen.unit is not None):
        raise UserError(coded("OPT-008", "--unit, --rank: use one of them: --unit 4 for ranks 4, 8, 12 …, or --rank 4 16 for these two"))

    from library.lora.bundled.carry import carried
    from library.lora.files import group_by_module, write_weights
    from library.surgery.network_file import DTYPES, open_network
    from library.surgery.own_metadata import family_of_modules, own_metadata
    from library.surgery.resize import truncated

    network = open_network(chosen.model, "--model")
    network.only_lora()
    words = carried([network.file])
    full = max(network.rank(key) for key in network.modules)
    asked = chosen.rank or (chosen.unit or 1,)
    ranks = chosen.rank or tuple(range(asked[0], full, asked[0]))
    if not ranks or max(ranks) > full:
        raise UserError(coded("OPT-006", f"--{'rank' if chosen.rank else 'unit'} {max(asked)}: the file's rank is {full}; use a lower one"))
    for rank in ranks:
        path = chosen.save_to.with_name(f"{chosen.save_to.stem}-{rank}{chosen.save_to.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors, metadata = truncated(network, rank, DTYPES[chosen.save_precision] if chosen.save_precision else None)
        write_weights(path, {**tensors, **words}, own_metadata(metadata, path.stem, family_of_modules(group_by_module(tensors, str(path)))))
        log.info("saved %s", path)


if __name__ == "__main__":
    sys.exit(run_script(main))
