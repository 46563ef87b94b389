"""Compare network files: the same prompts with each, side by side: `python tools/compare_networks.py --ckpt m.safetensors --networks …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.pictures import CompareNetworks


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(CompareNetworks, argv)
    check_paths(options)
    from library.generation.comparing.run import compare

    compare(options)


if __name__ == "__main__":
    sys.exit(run_script(main))
