"""Writes docs/errors.md from the registry: `python -m library.refusals.docs`."""

from __future__ import annotations

from pathlib import Path

from library.refusals.refusal import Area, Refusal
from library.refusals.table import AREAS

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"

_INTRODUCTION = """\
# Error codes

<!-- Made by `python -m library.refusals.docs` from library/refusals/. Change it there. -->

If a script or a tool cannot do what you asked, it ends with one or more lines such as

    error: image cats/3.png: cannot be read (truncated); remove or replace it [SD-DATA-001]

The line says where, what and what to do. The code at its end names the kind: search this page for it. A code keeps its meaning
forever; one that is no longer needed is never reused for another kind. Several lines are several errors, all found at once.

The exit code is 2, or 1 if a tool has done everything except what the lines name. More help: [troubleshooting.md](troubleshooting.md).
"""


def page() -> str:
    """Return the text of docs/errors.md."""
    return _INTRODUCTION + "".join(_area(area) for area in AREAS)


def _area(area: Area) -> str:
    lines = ["", f"## SD-{area.name}: {area.title}", "", "| Code | What it means | What to do | More |", "|---|---|---|---|"]
    return "\n".join(lines + [_row(refusal) for refusal in area.refusals]) + "\n"


def _row(refusal: Refusal) -> str:
    name = refusal.page.partition("#")[0]
    cells = (f"SD-{refusal.code}", refusal.meaning, refusal.remedy, f"[{name.removesuffix('.md')}]({refusal.page})")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
