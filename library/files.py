"""Files on disk: images listed in one stable order, writes that are whole or not there, hashes, free space."""

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

NOT_UNICODE = "backslashreplace"  # how text files spell such signs of a name (unpacked from another system's zip): \udcff, as JSON does
IMAGE_EXTENSIONS = frozenset(READABLE)
# the names that the two functions below give; those of older versions have eight signs for a mark, and tell of no process
_LEFT_OVER = re.compile(rf"\.(?P<name>.+)\.([0-9a-f]{{8}}|(?P<mark>{MARK}))\.(?P<kind>tmp|old)(\.[a-z]+)?")
_CUT_NAME = 230  # bytes; a longer name may be one of which the middle is left out
_tidied: set[Path] = set()  # folders in which this process has looked for left-overs
_TORCH_FULL = ("PytorchStreamWriter failed writing", "unexpected pos")  # torch.save, which checks nothing but how far it got


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's, in any letter case, and is not hidden (a Mac writes `._a.png` beside a.png)."""
    return names_image(path.name)


def names_image(name: str) -> bool:
    """`is_image` of a file's name alone: in a folder of 100,000 files their paths are what takes the time."""
    return not name.startswith(".") and name.lower().endswith(READABLE)


def composed(name: str) -> str:
    """The name with each Hangul syllable and accented letter as one sign (NFC), of which a Mac may make several."""
    return unicodedata.normalize("NFC", name)


def compared(name: str) -> str:
    """The name by which two files are taken for the same: composed, and without letter case where the system knows none (Windows)."""
    return os.path.normcase(composed(name))


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """The images of `folder`, sorted by name so that the order is the same on every file system; hidden folders are left alone."""
    found = [base / name for base, names in listed_files(folder, recursive) for name in names if names_image(name)]
    return sorted(found, key=lambda path: path.as_posix())


def listed_files(folder: Path, recursive: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with the names of its files, that given first; hidden folders, pipes, sockets and devices are left alone.

    A folder inside that may not be looked into is told. Raises OSError for `folder` itself.
    """
    for base, found, refused in walk(Path(folder), recursive):
        if refused is not None and base == Path(folder):
            raise refused
        if refused is not None:
            log.warning("%s: cannot be read (%s), so it is skipped; have its permissions changed", base, refused.strerror)
        for line in passed_over(base, found.special):
            log.warning(line)
        yield base, list(found.files)


@contextlib.contextmanager
def atomic_write(path: Path, keep_ending: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk, found whole (`check_whole`) and takes `path`'s place; on
    failure it is removed. `keep_ending` gives it `path`'s ending, for writers that choose their format by it.

    A reader, a kill or a full disk therefore never meets half a file under the real name; what a kill has left in the folder is removed
    when the next process begins to write there. Raises OSError for the name of a pipe, socket
    or device, of which nothing is replaced.
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
            with contextlib.suppress(OSError):  # a drive of Windows, or of the net, may know no rights
                temporary.chmod(mode)  # safetensors makes files that nobody else can read
        put_in_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success its files are flushed to disk, found whole (`check_whole`) and it takes `path`'s
    place; on failure it is removed.

    A folder that stood there before is moved aside first and comes back if the new one cannot be put in its place.
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
    """Read a written file back as far as its format, known by `ending`, tells what it must hold; OSError where that is not there.

    A safetensors file says its length in its header; what torch and numpy save is a zip archive with a checksum for each member.
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
    """Remove from `folder` what processes that were killed left half written; returns the names.

    Nothing of a process that lives goes. Of older versions' files, whose names tell of no process, only those go that match `ours`.
    A folder or file that the kill caught moved aside, its successor not yet in place, gets its name back.
    """
    removed = []
    for path in matching(folder, ".*"):
        outer = found = _LEFT_OVER.fullmatch(path.name)
        while found and (inner := _LEFT_OVER.fullmatch(found["name"])):  # a writer that writes aside itself
            found = inner
        if outer is None or found is None:
            continue
        if has_writer(path, outer["mark"]) if outer["mark"] else ours is None or not ours.fullmatch(found["name"]):
            continue
        target = path.with_name(found["name"])
        with contextlib.suppress(OSError):  # another program has it open: it stays, and does no harm
            if found["kind"] == "old" and not exists(target):
                if len(os.fsencode(path.name)) < _CUT_NAME:
                    path.rename(target)
                continue
            shutil.rmtree(path) if is_folder(path) else path.unlink()
            removed.append(path.name)
    return removed


def _tidy_once(folder: Path) -> None:
    """Before this process writes its first file into a folder."""
    if folder not in _tidied:
        _tidied.add(folder)
        with contextlib.suppress(OSError):
            tidy(folder)


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written where `folder` is, or will be."""
    standing = next((part for part in (folder.absolute(), *folder.absolute().parents) if exists(part)), Path.cwd())
    return shutil.disk_usage(standing).free


def is_full(error: BaseException) -> bool:
    """Whether `error`, raised by whatever library was writing, means that the disk (or the user's share of it) is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return True
    # safetensors and torch have errors of their own, in which the system's number stands as text, or not at all
    return any(sign in str(error) for sign in ("No space left on device", "os error 28", "os error 112", "os error 122", *_TORCH_FULL))


def sha256(path: Path, offset: int = 0) -> str:
    """Hex SHA-256 of the file's bytes from `offset` on, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
