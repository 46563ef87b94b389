"""Tags images: the tagger's probabilities become a line of tags in a text file beside each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from library.preparation.describe import describe_images
from library.preparation.tag_choice import Chosen, TagSettings, added, choose
from library.preparation.tag_text import split_tags
from library.preparation.text_files import read_text_file, text_file_of, write_text_file
from library.preparation.wd14 import Tagger
from library.renaming import is_there


@dataclass(frozen=True)
class TagRun:
    """Where the tags go and which. `separator` stands between tags; `append` keeps those that a file has."""

    extension: str
    separator: str
    append: bool
    batch_size: int
    workers: int | None
    settings: TagSettings
    show: Callable[[str], None] | None = None  # gets a line for each image


def tag_images(images: Sequence[Path], run: TagRun, tagger: Tagger, count: Counter[str]) -> None:
    """Write the tags of each image beside it and `count` how many images got which tag; raises PartlyDone as `describe_images`."""

    def write(image: Path, probabilities: np.ndarray) -> None:
        chosen = choose(probabilities, tagger.labels, run.settings)
        _write(image, chosen, run)
        count.update(chosen.written)

    describe_images(images, tagger, write, batch_size=run.batch_size, workers=run.workers, label="tagged")


def _write(image: Path, chosen: Chosen, run: TagRun) -> None:
    """Write the tag file of one image."""
    if run.show:
        kinds = {"rating": [chosen.rating or "none"], "character": chosen.character, "general": chosen.general}
        run.show(f"{image}:\n" + "\n".join(f"  {kind}: {', '.join(tags)}" for kind, tags in kinds.items()))
    path = text_file_of(image, run.extension)
    if run.append and is_there(path):
        before = read_text_file(path)
        known = [tag for line in before.splitlines() for tag in split_tags(line, run.separator)]
        new = added(known, chosen.written)[len(known) :]
        if new or not before:
            write_text_file(path, _joined(before, new, run.separator))
    else:
        write_text_file(path, run.separator.join(chosen.written))


def _joined(before: str, new: Sequence[str], separator: str) -> str:
    """What stands there, line by line as it was, with the new tags behind the last one."""
    kept = before.rstrip()
    while separator.strip() and kept.endswith(separator.strip()):
        kept = kept.removesuffix(separator.strip()).rstrip()
    return separator.join([kept, *new] if kept else new)
