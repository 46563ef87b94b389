"""The walk that captioning and tagging share: read ahead, ask the model batch by batch, write each answer as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from library.console import log, progress
from library.errors import UserError, coded
from library.partial_faults import Faults, in_writable_folders
from library.preparation.read_ahead import read_ahead, workers_of
from library.words import counted

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class ImageModel(Protocol[Answer_co]):
    """A model that says something about each image of a batch."""

    def prepare(self, path: Path) -> np.ndarray:
        """The image file as the model's input."""

    def describe(self, images: np.ndarray, paths: Sequence[Path]) -> Iterable[Answer_co]:
        """One answer for each image of the batch [B, ...]."""


def describe_images(
    images: Sequence[Path],
    model: ImageModel[Answer],
    write: Callable[[Path, Answer], None],
    *,
    batch_size: int,
    workers: int | None,
    label: str,
) -> None:
    """Hand each image and the model's answer to `write`, in the order of the images.

    Raises PartlyDone, all the rest written, with a line for each image that cannot be read or whose answer cannot be written
    (`write` raises UserError or OSError), and UserError when that is true of all. `label` says what is done, as "tagged".
    """
    faults = Faults()
    images = in_writable_folders(images, faults)
    done = 0
    with progress(total=len(images), label=label, unit="image") as bar:
        for batch in read_ahead(images, model.prepare, batch_size, workers_of(workers)):
            for one in batch:
                if one.fault is not None:
                    faults.add(coded("DATA-001", f"image {one.path}: {one.fault}; remove or replace it"))
            paths = [one.path for one in batch if one.value is not None]
            if paths:
                answers = model.describe(np.stack([one.value for one in batch if one.value is not None]), paths)
                for path, answer in zip(paths, answers, strict=True):
                    done += _written(path, answer, write, faults)
            bar.update(len(batch))
    told = f"{counted(done, 'image')} {label}"
    faults.raise_if_any(told, done)
    log.info("%s", told)


def _written(path: Path, answer: Answer, write: Callable[[Path, Answer], None], faults: Faults) -> bool:
    try:
        write(path, answer)
    except UserError as fault:
        for problem in fault.problems:
            faults.add(problem)
        return False
    except OSError as fault:
        faults.not_written(path, fault)
        return False
    return True
