"""Images of a folder and the caption or tag file next to each: finds them, reads UTF-8, writes atomically."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from library.console import log
from library.data.config.nearby_paths import folder_contents, other_files
from library.data.scan.caption_files import LARGEST_FILE
from library.errors import UserError, coded
from library.files import IMAGE_EXTENSIONS, atomic_write, list_images
from library.image_endings import SHOWN
from library.paths.opening import read_bytes
from library.renaming import is_there
from library.words import counted, named


def images_of(folder: Path, recursive: bool, option: str = "train_data_dir") -> list[Path]:
    """The images of `folder` in a stable order. Raises UserError that names `option` and the other contents if there are none."""
    images = list_images(folder, recursive)
    if images:
        return images
    _, below = folder_contents(folder)
    inside = sum(below.values())
    if inside and not recursive:
        raise UserError(
            coded("DATA-003", f"{option}: {folder} has no images, but its subfolders have {inside}; add --recursive to include them")
        )
    raise UserError(coded("DATA-003", f"{option}: {folder} has no images ({SHOWN}): {other_files(folder)}"))


def check_extension(origin: str, extension: str) -> None:
    """Raise UserError for an extension that text files must not have."""
    if "." not in extension:
        raise UserError(coded("OPT-006", f"{origin}: {extension!r} has no dot; write .{extension or 'txt'}"))
    if Path("a" + extension).suffix.lower() in IMAGE_EXTENSIONS:
        raise UserError(
            coded("OPT-006", f"{origin}: {extension} is the extension of images, which would be overwritten; use another, such as .txt")
        )
    if {"/", "\\"} & set(extension):
        raise UserError(coded("OPT-006", f"{origin}: {extension!r} is a path; write only the extension, such as .txt"))


def text_file_of(image: Path, extension: str) -> Path:
    """The text file of an image: the same name with `extension`."""
    return image.with_name(image.stem + extension)


def read_text_file(path: Path) -> str:
    """The file's text without BOM. Raises UserError of one line if it is not UTF-8 or cannot be opened."""
    try:
        data = read_bytes(path, LARGEST_FILE)
    except OSError as fault:
        raise UserError(coded("DATA-004", f"{path}: cannot be opened ({fault.strerror}); check the file and start again")) from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(coded("DATA-004", f"{path}: is UTF-16 text; save it again with encoding UTF-8"))
    if b"\0" in data:  # UTF-16 without a BOM may look like UTF-8
        raise UserError(coded("DATA-004", f"{path}: contains NUL characters; it is UTF-16 or damaged, save it again with encoding UTF-8"))
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as fault:
        raise UserError(coded("DATA-004", f"{path}: is not UTF-8 text (byte {fault.start}); save it again with encoding UTF-8")) from None


def write_text_file(path: Path, text: str) -> None:
    """Write one line of text atomically. Raises OSError; an existing file then stays unchanged."""
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def remark_on_targets(images: Sequence[Path], extension: str, append: bool = False) -> None:
    """Warn before text files are written: about names shared by two images, and without `append` about files that will be overwritten."""
    remark_on_shared_names(images, extension)
    there = [path.name for path in (text_file_of(image, extension) for image in images) if is_there(path)]
    if there and not append:
        files = counted(len(there), f"{extension} file exists", f"{extension} files exist")
        log.warning("%s already and will be overwritten: %s", files, named(there))


def remark_on_shared_names(images: Sequence[Path], extension: str) -> None:
    """Warn about images that differ only in their extension (a.png, a.jpg) and so share one text file."""
    count = Counter(image.with_suffix("") for image in images)
    alike = [image.name for image in images if count[image.with_suffix("")] > 1]
    if alike:
        log.warning("%s differ only in their extension and share one %s file: %s", counted(len(alike), "image"), extension, named(alike))


def missing_remark(without: list[Path], images: int, extension: str) -> str:
    """A line about images without a text file, with the extensions of similar files next to them."""
    verb = "has" if len(without) == 1 else "have"
    line = f"{len(without)} of {counted(images, 'image')} {verb} no {extension} file: {named([path.name for path in without])}"
    others = _other_endings(without, extension)
    return line + (f"; {_listed(others)} next to them: --caption_extension {others.most_common(1)[0][0]}" if others else "")


def _other_endings(images: list[Path], extension: str) -> Counter[str]:
    """Number of text files per other extension that have the name of one of the images."""
    endings: Counter[str] = Counter()
    for ending in (".caption", ".txt", ".tags", ".cap"):
        if ending != extension:
            count = sum(is_there(text_file_of(image, ending)) for image in images)
            if count:
                endings[ending] = count
    return endings


def _listed(endings: Counter[str]) -> str:
    files = "file is" if endings.total() == 1 else "files are"
    return ", ".join(f"{count} {ending}" for ending, count in endings.most_common()) + f" {files}"
