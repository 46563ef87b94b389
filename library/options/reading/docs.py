"""Writes docs/options.md from the declarations: `python -m library.options.reading.docs`."""

from __future__ import annotations

from pathlib import Path

from library.options.declare import Option, Script, groups_of, options_of, title_of
from library.options.groups.scripts import SCRIPTS
from library.options.reading.help_text import shown_default
from library.options.reading.values import expected
from library.options.tool_groups.table import TOOLS

PAGE = Path(__file__).parents[3] / "docs" / "options.md"

_INTRODUCTION = """\
# Options

<!-- Made by `python -m library.options.reading.docs` from library/options/. Change it there. -->

Options are given on the command line (`--seed 42`) or in a TOML file named with `--config_file` (`seed = 42`); the command line
overrides the file. In the file `[sections]` are ignored, switches are `true` or `false`, and options that take
several values are lists. `--output_config --config_file settings.toml` writes a file with all of them to start from.

A mistyped name stops the run before it starts, and so does an invalid value. Keys of a file that belong to another script,
another kind of model or a front-end are listed in one warning ([from_sd_scripts.md](from_sd_scripts.md#front-ends)). In a file `1` and
`0` work for a switch too, `2.0` and `"2"` for a number, `[]` and `""` for an option that is not set, and a single value for a list of
one. On the command line the start of a name works as long as only one option starts that way, as with argparse; a warning names it.

The [tools](#tools) at the end take their options on the command line only.
"""
_TOOLS = """
# Tools

A name without `--` in a table is an argument that the tool always needs, in that order: `python finetune/make_captions.py photos`.
"""


def page() -> str:
    """Return the text of docs/options.md."""
    return _INTRODUCTION + "".join(_script(spec) for spec in SCRIPTS) + _TOOLS + "".join(_script(spec) for spec in TOOLS)


def _script(spec: type[Script]) -> str:
    lines = ["", f"## {spec.name}", "", (spec.__doc__ or "").strip()]
    for group, kind in groups_of(spec).items():
        lines += ["", f"### {title_of(kind)}", "", "| Option | Takes | Default | What it does |", "|---|---|---|---|"]
        lines += [_row(option) for option in options_of(spec) if option.group == group]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    takes = "switch" if option.type is bool else expected(option) + (", several" if option.is_list else "")
    default = shown_default(option)
    description = option.help
    if option.aliases:
        description += " Also written " + ", ".join(f"`--{name}`" for name in option.aliases) + "."
    cells = (f"`{option.flag}`", takes, f"`{default}`" if default is not None else "", description)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
