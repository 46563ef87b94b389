"""Tags images: writes the tags from the tagger's probabilities to a text file next to each image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from library.data.scan.image_headers import read_header
from library.files import NOT_UNICODE, atomic_write
from library.preparation.describe import describe_images
from library.preparation.tag_choice import Chosen, TagSettings, added, choose
from library.preparation.tag_text import split_tags
from library.preparation.text_files import read_text_file, text_file_of, write_text_file
from library.preparation.wd14 import Tagger
from library.renaming import is_there


@dataclass(frozen=True)
class TagRun:
    """Which tags are written, and where. `separator` is put between tags; `append` preserves the existing tags of a file."""

    extension: str
    separator: str
    append: bool
    batch_size: int
    workers: int | None
    settings: TagSettings
    show: Callable[[str], None] | None = None  # receives a line for each image
    output: Path | None = None  # one file for all tags, instead of one per image


def tag_images(images: Sequence[Path], run: TagRun, tagger: Tagger, count: Counter[str]) -> None:
    """Write the tags of each image next to it and add the images per tag to `count`. Raises PartlyDone like `describe_images`."""

    table: dict[Path, str] = {}

    def write(image: Path, probabilities: np.ndarray) -> None:
        chosen = choose(probabilities, tagger.labels, run.settings, likeliest_first=tagger.mapped)
        text, is_new = _text(image, chosen, run)
        if run.output is not None:
            table[image] = text.rstrip()
        elif is_new:
            write_text_file(text_file_of(image, run.extension), text)
        count.update(chosen.written)

    try:
        describe_images(images, tagger, write, batch_size=run.batch_size, workers=run.workers, label="tagged")
    finally:
        if run.output is not None and table:
            write_table(run.output, table)


def write_table(path: Path, tags: Mapping[Path, str]) -> None:
    """Write tags by image to one file: an object per line for `.jsonl`, else a table that fine-tuning can read. Raises OSError."""
    sizes = {image: list(read_header(image).size) for image in tags}
    if path.suffix.lower() == ".jsonl":
        rows = ({"image_path": str(image), "caption": text, "image_size": sizes[image]} for image, text in tags.items())
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        entries = {str(image): {"tags": text, "image_size": sizes[image]} for image, text in tags.items()}
        content = json.dumps(entries, ensure_ascii=False, indent=4) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors=NOT_UNICODE, newline="\n")


def _text(image: Path, chosen: Chosen, run: TagRun) -> tuple[str, bool]:
    """The tags of one image, after the preserved tags of its file if any, and whether the text differs from the file's."""
    if run.show:
        kinds = {"rating": [chosen.rating or "none"], "character": chosen.character, "general": chosen.general}
        kinds |= {"quality": [chosen.quality]} if chosen.quality else {}
        run.show(f"{image}:\n" + "\n".join(f"  {kind}: {', '.join(tags)}" for kind, tags in kinds.items()))
    path = text_file_of(image, run.extension)
    if not (run.append and is_there(path)):
        return run.separator.join(chosen.written), True
    before = read_text_file(path)
    known = [tag for line in before.splitlines() for tag in split_tags(line, run.separator)]
    new = added(known, chosen.written)[len(known) :]
    return (_joined(before, new, run.separator), True) if new or not before else (before, False)


def _joined(before: str, new: Sequence[str], separator: str) -> str:
    """The existing text, unchanged line by line, with the new tags after its last one."""
    text = before.rstrip()
    while separator.strip() and text.endswith(separator.strip()):
        text = text.removesuffix(separator.strip()).rstrip()
    return separator.join([text, *new] if text else new)
