"""Clean all captions and tags of a metadata file by a table of rules: `python finetune/clean_captions_and_tags.py in.json out.json`"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import log, run_script
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.preparation import CleanCaptionsAndTags
from library.words import counted

RULES = Path(__file__).with_name("cleaning_rules.toml")


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    options = parse(CleanCaptionsAndTags, argv)
    check_paths(options)
    from library.data.scan.metadata_file import read_metadata_file, write_metadata_file
    from library.preparation.cleaning import clean_metadata
    from library.preparation.cleaning_rules import read_rules

    chosen = options.metadata
    rules = read_rules(chosen.rules or RULES, "--rules")
    metadata = read_metadata_file(chosen.in_json, "in_json")
    cleaned, faults = clean_metadata(metadata, rules, show=print if chosen.debug else None)
    write_metadata_file(chosen.out_json, cleaned, "out_json")
    changed = sum(metadata[key] != entry for key, entry in cleaned.items())
    done = f"{changed} of {counted(len(cleaned), 'entry', 'entries')} changed, written to {chosen.out_json}"
    faults.raise_if_any(done, len(cleaned))
    log.info("%s", done)


if __name__ == "__main__":
    sys.exit(run_script(main))
