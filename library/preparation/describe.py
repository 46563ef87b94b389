"""Loop shared by captioning and tagging: reads ahead, runs the model batch by batch and writes each result immediately."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from library.console import log, progress
from library.errors import UserError
from library.partial_faults import Faults, in_writable_folders
from library.preparation.read_ahead import read_ahead, workers_of
from library.words import counted

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class ImageModel(Protocol[Answer_co]):
    """A model that describes each image of a batch."""

    def prepare(self, path: Path) -> np.ndarray:
        """The image file as model input."""

    def describe(self, images: np.ndarray, paths: Sequence[Path]) -> Iterable[Answer_co]:
        """One result per image of the batch [B, ...]."""


def describe_images(
    images: Sequence[Path],
    model: ImageModel[Answer],
    write: Callable[[Path, Answer], None],
    *,
    batch_size: int,
    workers: int | None,
    label: str,
) -> None:
    """Pass each image and the model's result to `write`, in the order of the images.

    Raises PartlyDone after all others are written, with a line for each image that cannot be read or whose result cannot be written
    (`write` raises UserError or OSError), and UserError if all images fail. `label` is the finished action, such as "tagged".
    """
    faults = Faults()
    images = in_writable_folders(images, faults)
    done = 0
    with progress(total=len(images), label=label, unit="image") as bar:
        for batch in read_ahead(images, model.prepare, batch_size, workers_of(workers)):
            for one in batch:
                if one.fault is not None:
                    faults.add(one.fault.reworded(f"image {one.path}: {one.fault}; remove or replace it"))
            paths = [one.path for one in batch if one.value is not None]
            if paths:
                answers = model.describe(np.stack([one.value for one in batch if one.value is not None]), paths)
                for path, answer in zip(paths, answers, strict=True):
                    done += _written(path, answer, write, faults)
            bar.update(len(batch))
    summary = f"{counted(done, 'image')} {label}"
    faults.raise_if_any(summary, done)
    log.info("%s", summary)


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
