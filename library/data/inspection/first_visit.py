"""Reads header and signature of images that the index does not know yet, in several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from library.console import progress
from library.data.config.blueprint import DatasetBlueprint
from library.data.inspection.image_signature import Look, visit_and_look
from library.data.scan.image_headers import Header, Unreadable
from library.data.scan.scan_index import ScanIndex
from library.files import names_image

Result = TypeVar("Result")

_THREADS = 8
_AT_ONCE = 16  # images per task of a thread
_BAR_FROM = 200  # images; fewer are decoded before anyone could read a progress bar


def visit_folders(blueprint: DatasetBlueprint, index: ScanIndex) -> None:
    """Add header and look of the folders' images to the index where it knows neither.

    Unreadable files are not added: later code reads them again and gets the error.
    """
    for subset in blueprint.subsets():
        if subset.image_dir is None or subset.metadata_file:
            continue
        try:
            names = index.names(subset.image_dir)
        except OSError:
            continue  # the scan reports the error
        folder, images = subset.image_dir, sorted(name for name in names if names_image(name))
        new = [folder / name for name in images if not (index.known_in(folder, name, Header) or index.known_in(folder, name, Look))]
        for path, facts in in_threads(new, _visit):
            for fact in facts:
                index.remember(path, fact)


def _visit(path: Path) -> list[Header | Look]:
    try:
        return [fact for fact in visit_and_look(path) if fact is not None]
    except Unreadable:
        return []


def in_threads(paths: Sequence[Path], act: Callable[[Path], Result]) -> Iterator[tuple[Path, Result]]:
    """Each image with the result of `act`, in their order; with a progress bar if there are many."""
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    bar = progress(total=len(paths), label="looking at images", unit="image") if len(paths) >= _BAR_FROM else None
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for part, results in zip(parts, pool.map(partial(_all_of, act), parts), strict=True):
            yield from zip(part, results, strict=True)
            if bar is not None:
                bar.update(len(part))
    if bar is not None:
        bar.close()


def _all_of(act: Callable[[Path], Result], paths: Sequence[Path]) -> list[Result]:
    return [act(path) for path in paths]
