"""What page and sheet show: rows of prompts, columns of files and strengths, pictures where they are drawn, losses where measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from library.generation.comparing.cells import Cell, Column
from library.generation.comparing.losses import Standing


@dataclass(frozen=True)
class Grid:
    """`rows` are the cells of each prompt in the order of `columns`; `losses` is empty or has one for each column."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    losses: Sequence[Standing] = ()
    verdict: str = ""

    def files(self) -> list[tuple[str, int]]:
        """Each file's label, and how many columns stand under it."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.label:
                found[-1] = (column.label, found[-1][1] + 1)
            else:
                found.append((column.label, 1))
        return found

    def has_strengths(self) -> bool:
        """Whether strengths have to be named: not where every file is at 1."""
        return any(column.choice is not None and column.strength != 1 for column in self.columns)


def name_of(column: Column, with_strength: bool) -> str:
    """The column in a line: `dog-000003 at 0.6`."""
    return f"{column.label} at {column.strength:g}" if with_strength and column.choice is not None else column.label


def loss_line(standing: Standing) -> str:
    """`0.01234`, and behind the best one: `+0.0012 ±0.0003`."""
    if standing.is_best:
        return "lowest"
    noise = "" if standing.noise is None else f" ±{standing.noise:.4f}"
    return f"+{standing.behind:.4f}{noise}"
