"""Encode images to latents before fine_tune.py: `prepare_buckets_latents.py images meta.json meta_latents.json model.safetensors`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.latents import PrepareBucketsLatents


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(PrepareBucketsLatents, argv)
    check_paths(options)
    from library.training.caches.prepare_latents import prepare

    prepare(options)


if __name__ == "__main__":
    sys.exit(run_script(main))
