"""Files on disk: images in a stable order, writes that are complete or absent, hashes, free space."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

from library.console import log
from library.image_endings import READABLE
from library.parsing.json_text import parse_json
from library.paths.listing import matching, passed_over, walk
from library.paths.look import exists, is_file, is_folder
from library.paths.opening import open_file, refuse_special
from library.paths.writers import MARK, has_writer
from library.renaming import flush_file, flush_folder, name_beside, patiently, put_in_place

NOT_UNICODE = (
    "backslashreplace"  # how text files spell undecodable bytes of a name (unpacked from another system's zip): \udcff, as JSON does
)
IMAGE_EXTENSIONS = frozenset(READABLE)
# the temporary names of the two functions below; older versions had a mark of eight hex digits that does not name a process
_LEFT_OVER = re.compile(rf"\.(?P<name>.+)\.([0-9a-f]{{8}}|(?P<mark>{MARK}))\.(?P<kind>tmp|old)(\.[a-z]+)?")
_CUT_NAME = 230  # bytes; in a longer name the middle may be left out
_tidied: set[Path] = set()  # folders that this process has searched for leftovers
_TORCH_FULL = ("PytorchStreamWriter failed writing", "unexpected pos")  # from torch.save, which checks only how far it got


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's, in any letter case, and is not hidden (macOS writes `._a.png` next to a.png)."""
    return names_image(path.name)


def names_image(name: str) -> bool:
    """`is_image` by the file name alone: in a folder of 100,000 files, creating paths takes most of the time."""
    return not name.startswith(".") and name.lower().endswith(READABLE)


def composed(name: str) -> str:
    """Return the name with each Hangul syllable and accented letter as one character (NFC); macOS may split them into several."""
    return unicodedata.normalize("NFC", name)


def compared(name: str) -> str:
    """Return the name for comparing files: composed, and in lower case if the system ignores case (Windows)."""
    return os.path.normcase(composed(name))


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the images of `folder`, sorted by name so that the order is the same on every file system; skips hidden folders."""
    images = [base / name for base, names in listed_files(folder, recursive) for name in names if names_image(name)]
    return sorted(images, key=lambda path: path.as_posix())


def listed_files(folder: Path, recursive: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the names of its files, `folder` first; skips hidden folders, pipes, sockets and devices.

    A subfolder that cannot be read gets a warning. Raises OSError for `folder` itself.
    """
    for base, entries, refused in walk(Path(folder), recursive):
        if refused is not None and base == Path(folder):
            raise refused
        if refused is not None:
            log.warning("%s: cannot be read (%s), so it is skipped; have its permissions changed", base, refused.strerror)
        for line in passed_over(base, entries.special):
            log.warning(line)
        yield base, list(entries.files)


@contextlib.contextmanager
def atomic_write(path: Path, keep_ending: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`. On success, flush it to disk, check that it is complete (`check_whole`) and rename it to
    `path`; on failure, remove it. `keep_ending` gives it the ending of `path`, for writers that choose their format by the ending.

    So a reader never meets an incomplete file under the real name, even after a kill or on a full disk. What a killed process left in the
    folder is removed when the next process starts to write there. Raises OSError if `path` is a pipe, socket or device; these are never
    replaced.
    """
    path = Path(path)
    refuse_special(path)
    _tidy_once(path.parent)
    temporary = name_beside(path, "tmp", path.suffix if keep_ending else "")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        flush_file(temporary)
        check_whole(temporary, path.suffix)
        if os.name != "nt" and temporary.stat().st_mode != mode:
            with contextlib.suppress(OSError):  # a Windows or network drive may not support permissions
                temporary.chmod(mode)  # safetensors creates files that only their owner can read
        put_in_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder next to `path`. On success, flush its files to disk, check that they are complete (`check_whole`) and rename it to
    `path`; on failure, remove it.

    An existing folder is moved aside first, and moved back if the new one cannot take its place.
    """
    path = Path(path)
    refuse_special(path)
    _tidy_once(path.parent)
    fresh, old = name_beside(path, "tmp"), name_beside(path, "old")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        inside = matching(fresh, "**/*")
        for file in inside:
            if is_file(file):
                flush_file(file)
                check_whole(file, file.suffix)
        for folder in (*(folder for folder in inside if is_folder(folder)), fresh):
            flush_folder(folder)
        if exists(path):
            patiently(lambda: path.rename(old))
        try:
            patiently(lambda: fresh.rename(path))
        except BaseException:
            if exists(old):
                old.rename(path)
            raise
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_whole(path: Path, ending: str) -> None:
    """Read a written file back and raise OSError if it is incomplete for its format, which `ending` names.

    The header of a safetensors file says its length; torch and numpy save a zip archive with a checksum for each member.
    """
    if ending == ".safetensors":
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(length)) if length <= path.stat().st_size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if not header or path.stat().st_size != 8 + length + max(ends, default=0):
            raise OSError(errno.EIO, f"the file on disk differs from what was written: {path.name} is incomplete")
    elif ending in (".ckpt", ".pt", ".pth", ".bin", ".npz"):
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except zipfile.BadZipFile as fault:
            raise OSError(errno.EIO, f"the file on disk differs from what was written: {path.name} ({fault})") from fault
        if broken:
            raise OSError(errno.EIO, f"the file on disk differs from what was written: {broken} in {path.name}")


def tidy(folder: Path, ours: re.Pattern[str] | None = None) -> list[str]:
    """Remove incomplete files of killed processes from `folder`; returns their names.

    Files of a running process stay. Files of older versions, whose names do not name a process, are removed only if they match `ours`.
    A file or folder that was moved aside when the process was killed, before its replacement was in place, gets its name back.
    """
    removed = []
    for path in matching(folder, ".*"):
        outer = match = _LEFT_OVER.fullmatch(path.name)
        while match and (inner := _LEFT_OVER.fullmatch(match["name"])):  # a writer that itself writes to a temporary file
            match = inner
        if outer is None or match is None:
            continue
        if has_writer(path, outer["mark"]) if outer["mark"] else ours is None or not ours.fullmatch(match["name"]):
            continue
        target = path.with_name(match["name"])
        with contextlib.suppress(OSError):  # another program has it open: it stays and does no harm
            if match["kind"] == "old" and not exists(target):
                if len(os.fsencode(path.name)) < _CUT_NAME:
                    path.rename(target)
                continue
            shutil.rmtree(path) if is_folder(path) else path.unlink()
            removed.append(path.name)
    return removed


def _tidy_once(folder: Path) -> None:
    """Tidy a folder once, before this process writes its first file there."""
    if folder not in _tidied:
        _tidied.add(folder)
        with contextlib.suppress(OSError):
            tidy(folder)


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`, which may not exist yet."""
    standing = next((part for part in (folder.absolute(), *folder.absolute().parents) if exists(part)), Path.cwd())
    return shutil.disk_usage(standing).free


def is_full(error: BaseException) -> bool:
    """Whether `error`, from any library that writes, means that the disk (or the user's quota) is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return True
    # safetensors and torch raise their own errors, with the system's error number in the text or not at all
    return any(sign in str(error) for sign in ("No space left on device", "os error 28", "os error 112", "os error 122", *_TORCH_FULL))


def is_too_large(error: BaseException) -> bool:
    """Whether `error` means that the file system or a limit allows no file of this size (4 GiB on FAT32), however much space is free."""
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return True
    return any(sign in str(error) for sign in ("File too large", "(os error 27)", "(os error 223)"))


def sha256(path: Path, offset: int = 0) -> str:
    """Return the hex SHA-256 of the file's bytes from `offset` on, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
