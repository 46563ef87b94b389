"""Change the metadata of a .safetensors file: `python tools/edit_metadata.py --model a.safetensors --set title=mine`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.formats import EditMetadata
from library.words import counted


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(EditMetadata, argv)
    edit = options.edit
    check_paths(options)
    if not (edit.set or edit.remove or edit.clear or edit.from_json):
        raise UserError(coded("TOOL-002", "--set, --remove, --from_json, --clear: nothing to change; use one of them"))

    from library.model.file_tools.metadata_edit import changed, check_target, entries_of, open_safetensors, write_metadata

    check_target(edit.save_to)
    entries = entries_of(edit.from_json, edit.set)
    file = open_safetensors(edit.model, "--model")
    metadata = changed(file.metadata, edit.clear, edit.remove, entries)
    write_metadata(file, edit.save_to or edit.model, metadata)
    number = counted(len(metadata), "entry", "entries")
    log.info(f"saved {edit.save_to or edit.model}: {number}, {len(file.metadata)} before")


if __name__ == "__main__":
    sys.exit(run_script(main))
