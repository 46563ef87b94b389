"""The contents of page and sheet: rows of prompts, columns of files and strengths, generated images, measured losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from library.generation.comparing.cells import Cell, Column
from library.generation.comparing.losses import Standing
from library.words import counted


@dataclass(frozen=True)
class Grid:
    """`rows` are the cells of each prompt in the order of `columns`; `losses` is empty or has one loss per column."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    losses: Sequence[Standing] = ()
    verdict: str = ""

    def files(self) -> list[tuple[str, int]]:
        """Return each file's label and its number of columns."""
        headings: list[tuple[str, int]] = []
        for column in self.columns:
            if headings and headings[-1][0] == column.label:
                headings[-1] = (column.label, headings[-1][1] + 1)
            else:
                headings.append((column.label, 1))
        return headings

    def has_strengths(self) -> bool:
        """Whether to show strengths: not if every file has strength 1."""
        return any(column.choice is not None and column.strength != 1 for column in self.columns)


def title_of(columns: Sequence[Column]) -> str:
    """Return the heading: `8 files compared, and the model without them`."""
    files = len({column.choice.file for column in columns if column.choice is not None})
    alone = any(column.choice is None for column in columns)
    return f"{counted(files, 'file')} compared" + (f", and the model without {'it' if files == 1 else 'them'}" if alone else "")


def name_of(column: Column, with_strength: bool) -> str:
    """Return the column as text: `dog-000003 at 0.6`."""
    return f"{column.label} at {column.strength:g}" if with_strength and column.choice is not None else column.label


def loss_line(standing: Standing) -> str:
    """Return `lowest` for the best column, for others the distance to it: `+0.0012 ±0.0003`."""
    if standing.is_best:
        return "lowest"
    noise = "" if standing.noise is None else f" ±{standing.noise:.4f}"
    return f"+{standing.behind:.4f}{noise}"
