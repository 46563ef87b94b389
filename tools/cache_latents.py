"""Write the latents of --cache_latents_to_disk before a run: `accelerate launch tools/cache_latents.py --dataset_config cfg.toml …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.latents import CacheLatents


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(CacheLatents, argv)
    check_paths(options, idle={"report_html"})  # only training runs write a report
    from library.training.caches.fill_latents import fill_cache

    fill_cache(options)


if __name__ == "__main__":
    sys.exit(run_script(main))
