"""Merge LoRAs of any ranks into one of a chosen rank: `python networks/svd_merge_lora.py --models a.safetensors … --new_rank 16 …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import SvdMergeLora
from library.words import counted


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(SvdMergeLora, argv)
    merge, output = options.merge, options.output
    check_paths(options)
    if merge.ratios and len(merge.ratios) != len(merge.models):
        raise UserError(
            coded("TOOL-005", f"--ratios: {counted(len(merge.ratios), 'value')} for {len(merge.models)} --models; give one for each")
        )

    from library.console import progress
    from library.lora.block_ratios import read_block_ratios
    from library.lora.bundled.carry import carried
    from library.surgery import combine
    from library.surgery.device import usable_device
    from library.surgery.network_file import DTYPES, open_network
    from library.surgery.write import write_lora

    blocks = read_block_ratios(merge.lbws, len(merge.models))
    device = usable_device(merge.device)
    ratios = merge.ratios or (1.0,) * len(merge.models)
    sources = [(open_network(path, "--models"), ratio) for path, ratio in zip(merge.models, ratios, strict=True)]
    for network, _ in sources:
        network.only_lora()
    conv_rank = merge.new_conv_rank or merge.new_rank
    modules = combine.cut(sources, DTYPES[output.precision], merge.new_rank, conv_rank, device, blocks)
    write_lora(
        progress(modules, total=len(combine.module_keys(sources)), label="merging", unit="module"),
        output.save_to,
        DTYPES[output.save_precision or output.precision],
        None if output.no_metadata else combine.merged_metadata(sources),
        "‖merged − weighted sum of the LoRAs‖ / ‖weighted sum‖",
        options.receipt.verbose,
        options.receipt.max_error,
        extra=carried([network.file for network, _ in sources]),
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
