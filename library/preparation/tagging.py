"""Tags images: the tagger's probabilities become a line of tags in a text file beside each image."""

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
    """Where the tags go and which. `separator` stands between tags; `append` keeps those that a file has."""

    extension: str
    separator: str
    append: bool
    batch_size: int
    workers: int | None
    settings: TagSettings
    show: Callable[[str], None] | None = None  # gets a line for each image
    output: Path | None = None  # one file for all tags, instead of one beside each image


def tag_images(images: Sequence[Path], run: TagRun, tagger: Tagger, count: Counter[str]) -> None:
    """Write the tags of each image beside it and `count` how many images got which tag; raises PartlyDone as `describe_images`."""

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
    """Tags by image in one file: for `.jsonl` an object a line, else a table whose entries fine-tuning can read. OSError where it fails."""
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
    """The tags of one image, behind those that its file has where they are kept, and whether that is another text than the file's."""
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
    """What stands there, line by line as it was, with the new tags behind the last one."""
    kept = before.rstrip()
    while separator.strip() and kept.endswith(separator.strip()):
        kept = kept.removesuffix(separator.strip()).rstrip()
    return separator.join([kept, *new] if kept else new)
