"""The validation loss of each column, and how the differences between columns compare with its noise."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from library.console import log
from library.data.batching.buckets import FilledData, fill
from library.data.config.blueprint import DREAMBOOTH, METADATA, DatasetBlueprint
from library.data.config.build import build, read_config
from library.data.scan.records import scan
from library.data.scan.validation_split import only_validated
from library.errors import UserError, first_line
from library.files import atomic_write
from library.options.tool_groups.pictures import ComparedLossOptions
from library.parsing.json_text import JsonFault, parse_json
from library.paths.look import is_file
from library.paths.opening import read_text

if TYPE_CHECKING:
    from library.generation.comparing.cells import Column

FILE = "losses.json"
SURE = 2.0  # columns differ if their difference is at least this many standard errors


@dataclass(frozen=True)
class Standing:
    """The mean loss of a column over all images; `behind` is its difference from the best one, `noise` the standard error of that.

    The error is that of the differences image by image, which share noise and timesteps: far smaller than the error of the losses.
    """

    loss: float
    behind: float
    noise: float | None  # None: unknown for a single image
    is_best: bool

    @property
    def is_apart(self) -> bool:
        """Whether it is clearly worse than the best one."""
        return self.noise is not None and self.behind > SURE * self.noise


def gathered(options: ComparedLossOptions) -> FilledData | None:
    """Return the images to measure on; None if measuring is off. Raises UserError for errors in the data."""
    if options.images is None and options.dataset_config is None:
        return None
    data = fill(only_validated(scan(_blueprint(options), skip_unreadable=True)))
    for finding in data.findings:
        log.warning(finding)
    return data


def _blueprint(options: ComparedLossOptions) -> DatasetBlueprint:
    defaults = {
        "resolution": options.resolution,
        "caption_extension": options.caption_extension,
        "validation_seed": options.validation_seed,
    }
    if options.dataset_config is not None:
        return read_config(options.dataset_config, defaults, frozenset({DREAMBOOTH, METADATA}))
    tree: dict[str, Any] = {"datasets": [{"enable_bucket": True, "min_bucket_reso": 64, "subsets": [{"image_dir": str(options.images)}]}]}
    blueprint, faults = build(tree, "--images", defaults, frozenset({DREAMBOOTH}))
    if blueprint is None:
        raise UserError(*faults)
    return blueprint


class LossBook:
    """The measured losses, image by image, in a file next to the page, so that they are not measured again."""

    def __init__(self, folder: Path, data: FilledData, seed: int, shared: Mapping[str, Any]) -> None:
        self._path = folder / FILE
        self._measured = _read(self._path)
        facts = dict(shared) | {"seed": seed, "images": [_image(record) for record in data.records]}
        facts |= {"places": [str(place) for place in data.placements]}
        self._what = hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()

    def of(self, column: Column, network: str) -> list[float] | None:
        """Return the losses of a column whose file has the hash `network`; None if unknown."""
        return self._measured.get(self._key(column, network))

    def add(self, column: Column, network: str, losses: Sequence[float]) -> None:
        """Save the losses of a column. Raises OSError."""
        self._measured[self._key(column, network)] = list(losses)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path) as temporary:
            temporary.write_text(json.dumps(self._measured), encoding="utf-8")

    def _key(self, column: Column, network: str) -> str:
        module = None if column.choice is None else column.choice.module
        return hashlib.sha256(json.dumps([self._what, network, module, column.strength]).encode("ascii")).hexdigest()


def _image(record: Any) -> list[Any]:
    stat = record.path.stat()
    return [record.key, record.caption, stat.st_size, stat.st_mtime_ns]


def _read(path: Path) -> dict[str, list[float]]:
    """Return the contents of the file; empty if it is not ours."""
    if not is_file(path):
        return {}
    try:
        content = parse_json(read_text(path))
    except (OSError, JsonFault, ValueError) as fault:
        log.warning(f"{path}: cannot be read ({first_line(fault)}); the losses are measured again")
        return {}
    sound = isinstance(content, dict) and all(
        isinstance(losses, list) and all(isinstance(loss, float | int) for loss in losses) for losses in content.values()
    )
    return content if sound else {}


def standings(losses: Sequence[Sequence[float]]) -> list[Standing]:
    """Compare the columns by the losses of each image; all have the same images in the same order."""
    means = [fmean(of_column) for of_column in losses]
    finite = [place for place, mean in enumerate(means) if math.isfinite(mean)]
    best = min(finite, key=means.__getitem__, default=0)
    compared = []
    for place, (mean, of_column) in enumerate(zip(means, losses, strict=True)):
        apart = [one - other for one, other in zip(of_column, losses[best], strict=True)]
        known = len(apart) > 1 and all(map(math.isfinite, apart))
        compared.append(Standing(mean, mean - means[best], stdev(apart) / math.sqrt(len(apart)) if known else None, place == best))
    return compared


def verdict(labels: Sequence[str], compared: Sequence[Standing], images: int) -> str:
    """Say which column is best, and which columns do not clearly differ from it."""
    best = labels[next(place for place, one in enumerate(compared) if one.is_best)]
    lowest = min(one.loss for one in compared)
    said = f"lowest validation loss: {best} ({lowest:.5f}, {images} image{'s' if images > 1 else ''})"
    if images < 2:
        return f"{said}; for a single image the noise is unknown, so differences mean little"
    close = [label for label, one in zip(labels, compared, strict=True) if not one.is_best and not one.is_apart]
    if len(compared) < 2:
        return said
    if not close:
        return f"{said}; all others are worse by more than {SURE:g} times the noise of the difference"
    return f"{said}; equally good within {SURE:g} times the noise: {', '.join(close)}"
