"""Collect the caption files of a folder of images in a metadata file: `merge_captions_to_metadata.py images meta.json`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import MergeCaptions


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(MergeCaptions, argv)
    check_paths(options)
    from library.preparation.merge import Merge, merge
    from library.preparation.text_files import check_extension

    extension = options.metadata.caption_extension
    check_extension("--caption_extension", extension)
    merge(Merge.from_options(options.metadata, "caption", extension))


if __name__ == "__main__":
    sys.exit(run_script(main))
