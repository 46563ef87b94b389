"""Generate images with a model, networks and embeddings: `python gen_img.py --ckpt model.safetensors --prompt "a dog" …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also if another program starts it

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.pictures import GenImg


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(GenImg, argv)
    check_paths(options)
    from library.generation.run import draw_pictures

    draw_pictures(options)


if __name__ == "__main__":
    sys.exit(run_script(main))
