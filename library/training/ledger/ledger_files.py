"""Writes `<name>.images.jsonl` and `<name>.images.html` next to the product, atomically and at each save."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from library.console import log
from library.files import NOT_UNICODE, atomic_write
from library.training.ledger.ledger import ImageLedger
from library.training.ledger.ledger_page import Thumbnails, as_page
from library.training.ledger.standings import Figure, Part, Standing, standings


class LedgerFiles:
    """For the main process. A write error is reported once and does not stop the run."""

    def __init__(self, ledger: ImageLedger, folder: Path, name: str) -> None:
        self.lines, self.page = folder / f"{name}.images.jsonl", folder / f"{name}.images.html"
        self._ledger, self._name = ledger, name
        self._thumbnails = Thumbnails()
        self._failed = False

    def write(self) -> None:
        """Write both files from what the ledger has collected."""
        visits = self._ledger.visits
        images = standings(visits, self._ledger.unseen())
        rows = visits.rows()
        updates = int(rows["step"].max()) if len(rows) else 0
        self._put(self.lines, lambda: "".join(json.dumps(as_line(one), ensure_ascii=False) + "\n" for one in images))
        self._put(self.page, lambda: as_page(self._name, images, updates, self._thumbnails))

    def places(self) -> Sequence[Path]:
        """The page that was written; empty after a write error."""
        return () if self._failed else (self.page,)

    def _put(self, path: Path, text: Callable[[], str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(text(), encoding="utf-8", errors=NOT_UNICODE, newline="\n")
        except OSError as error:
            if not self._failed:
                log.warning(f"--image_ledger: {path} cannot be written ({error.strerror or error}); training continues without it")
            self._failed = True


def as_line(one: Standing) -> dict[str, Any]:
    """One image as a line of the file."""
    line: dict[str, Any] = {
        "image": one.image.path,
        "dataset": one.image.dataset + 1,
        "class_image": one.image.is_class,
        "times_seen": one.times,
        "sizes": {f"{width}x{height}": times for (width, height), times in one.sizes},
        "captions": [{"text": text, "times": times} for text, times in one.captions],
        "other_captions": one.other_captions,
        "hardest": one.hardest,
        "most_learned": one.most_learned,
    }
    if one.measured is None:
        return line | {"hardness": None, "learned": None, "by_timestep": [], "by_epoch": []}
    return line | {
        "hardness": _figure(one.measured.hardness),
        "learned": _figure(one.measured.learned),
        "by_timestep": [_part(part, "timesteps") for part in one.measured.by_timestep],
        "by_epoch": [_part(part, "epochs") for part in one.measured.by_epoch],
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"value": _rounded(figure.value), "low": _rounded(figure.low), "high": _rounded(figure.high)}


def _part(part: Part, of: str) -> dict[str, Any]:
    factor = None if part.times_usual is None else _rounded(part.times_usual)
    return {of: [part.first, part.last], "times": part.times, "times_usual": factor}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
