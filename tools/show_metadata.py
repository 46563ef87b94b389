"""Show the metadata and contents of a .safetensors file: `python tools/show_metadata.py --model a.safetensors`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.formats import ShowMetadata


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(ShowMetadata, argv)
    check_paths(options)

    from library.model.file_tools.metadata_edit import open_safetensors
    from library.model.file_tools.metadata_page import as_json, page

    file = open_safetensors(options.shown.model, "--model")
    print(as_json(file.metadata, sys.stdout.encoding) if options.shown.json else page(file))


if __name__ == "__main__":
    sys.exit(run_script(main))
