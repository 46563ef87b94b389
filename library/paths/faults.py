"""Why a path cannot be used as intended, as the end of an error line: `<option>: <reason>`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from library.errors import Problem, coded
from library.options.suggest import missing_path
from library.paths.listing import walk
from library.paths.look import LONGEST_PART, Look, Thing, is_file, look, shown, standing
from library.paths.opening import open_file
from library.paths.writing import may_write

_FILES = (".safetensors", ".ckpt", ".pt")  # extensions of single files with weights
_NO_MODELS = (".pt", ".pth", ".bin")  # endings of weights that no whole model is saved with
_SNIFFED = 1 << 16  # bytes read to see whether a file is text
_DEPTH = 3  # levels of folders that are checked in a model or state
_CODES = {
    Thing.DANGLING: "PATH-006",
    Thing.LOOP: "PATH-006",
    Thing.DENIED: "PATH-004",
    Thing.TOO_LONG: "PATH-008",
    Thing.IMPOSSIBLE: "PATH-009",
    Thing.SPECIAL: "PATH-007",
    Thing.BROKEN: "PATH-010",
}
_ROOM = 40  # bytes that we add to a part of a name: a date, a step, the mark of an incomplete file


def file_fault(path: Path | str) -> Problem | None:
    """The error that prevents reading a file, or None."""
    seen = look(path)
    if seen.thing is Thing.FOLDER:
        return coded("PATH-002", f"{shown(path)} is a folder; name the file itself")
    return _unreadable_file(path) if seen.thing is Thing.FILE else _neither(path, seen, folder=False)


def folder_fault(path: Path | str) -> Problem | None:
    """The error that prevents reading a folder, or None."""
    seen = look(path)
    if seen.thing is Thing.FILE:
        return coded("PATH-003", f"{shown(path)} is a file; name the folder")
    return _unreadable_folder(path) if seen.thing is Thing.FOLDER else _neither(path, seen, folder=True)


def closed_fault(path: Path | str, folder: bool) -> Problem | None:
    """The error that prevents opening what is at a path.

    None if nothing is at the path, or a file instead of a folder: the caller has a more precise message.
    """
    seen = look(path)
    if seen.fault:
        return _closed(path, seen)
    if folder:
        return _unreadable_folder(path) if seen.thing is Thing.FOLDER else None
    return _unreadable_file(path) if seen.thing is Thing.FILE else None


def model_fault(path: Path | str) -> Problem | None:
    """The error that prevents reading a file or a folder of files. None also for a missing path, which may be a name on the Hub."""
    seen = look(path)
    if seen.thing is Thing.MISSING:
        return None
    if seen.thing is Thing.FILE:
        return _unreadable_file(path)
    return tree_fault(path) if seen.thing is Thing.FOLDER else _neither(path, seen, folder=False)


def tree_fault(folder: Path | str) -> Problem | None:
    """The error that prevents reading a folder of files that belong together (a model, a state) or anything in it, or None."""
    top = Path(folder)
    if fault := folder_fault(top):
        return fault
    for base, content, refused in walk(top):
        if len(base.relative_to(top).parts) > _DEPTH:
            continue
        if refused is not None:
            return _unreadable_folder(base)
        for name in (*content.special, *content.files):
            seen = look(base / name)
            if seen.thing in (Thing.SPECIAL, Thing.LOOP, Thing.DENIED, Thing.BROKEN):
                return _closed(base / name, seen)
            if not name.startswith(".") and seen.thing is Thing.FILE and (fault := _unreadable_file(base / name)):
                return fault
    return None


def filled_folder_fault(path: Path | str) -> Problem | None:
    """The error that prevents reading an existing folder or creating a new one, or None."""
    return tree_fault(path) if look(path).thing is Thing.FOLDER else new_folder_fault(path)


def unopened(path: Path, error: BaseException) -> str:
    """Why opening `path` failed with `error`, for a line that names the path and ends with a remedy."""
    reason = look(path).fault.partition("; ")[0]
    if not reason:
        closed = isinstance(error, PermissionError)
        reason = "this user may not read it" if closed else getattr(error, "strerror", None) or str(error)
    return f"cannot be opened ({reason})"


def new_file_fault(path: Path | str) -> Problem | None:
    """The error that prevents writing a file or creating its folder, or None."""
    path = Path(path)
    seen = look(path)
    if seen.thing is Thing.FOLDER:
        return coded("PATH-002", f"{shown(path)} is a folder; write the name of the file")
    if seen.thing in (Thing.FILE, Thing.MISSING):
        return _unwritable(path, path.absolute().parent)
    return _closed(path, seen)


def new_weights_fault(path: Path | str) -> Problem | None:
    """The same for a file with weights: its name says the format, and is checked before the work that fills it."""
    if fault := new_file_fault(path):
        return fault
    if Path(path).suffix.lower() not in _FILES:
        return coded("FILE-007", f"{shown(path)}: weights are saved as {', '.join(_FILES)}; choose another name")
    return None


def new_text_fault(path: Path | str) -> Problem | None:
    """The same for a file that is written as text: it never replaces one that is not text, such as a model or an image."""
    if fault := new_file_fault(path):
        return fault
    if not is_file(path):
        return None
    with suppress(OSError), open_file(path) as file:
        if b"\0" in file.read(_SNIFFED):
            return coded("PATH-011", f"{shown(path)} already exists, is not a text file and would be overwritten; choose another name")
    return None


def new_folder_fault(path: Path | str) -> Problem | None:
    """The error that prevents creating or writing to a folder, or None."""
    path = Path(path)
    seen = look(path)
    return _unwritable(path, path) if seen.thing in (Thing.FILE, Thing.FOLDER, Thing.MISSING) else _closed(path, seen)


def new_file_or_folder_fault(path: Path | str) -> Problem | None:
    """The same for a path that may become a file or a folder."""
    if Path(path).suffix.lower() in _FILES:
        return new_file_fault(path)
    if look(path).thing is Thing.FILE:
        return coded("PATH-003", f"{shown(path)} is a file, and this name would make a folder; name a new folder")
    return new_folder_fault(path) if look(path).thing is Thing.FOLDER else new_file_fault(path)


def new_model_fault(path: Path | str) -> Problem | None:
    """The same for a whole model: one of two formats of a file, or a Diffusers folder."""
    return model_name_fault(path) or new_file_or_folder_fault(path)


def model_name_fault(path: Path | str) -> Problem | None:
    """The error for the name of a model that ends like weights, but in no format of a model; it would become a folder, or None."""
    if Path(path).suffix.lower() in _NO_MODELS:
        return coded("FILE-007", f"{shown(path)}: a model is saved as .safetensors or .ckpt, or a folder; rename it")
    return None


def part_fault(text: str, folders: bool = False) -> Problem | None:
    """Why a text cannot be part of the name of a file that we write, or None; `folders`: it may contain subfolders."""
    value = repr(text) if len(text) <= 80 else f"'{shown(text[:40])}…'"
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xDC80 or (ord(sign) > 0xDCFF and ord(sign) < 0xE000) for sign in text):
        return coded("PATH-009", f"{value} contains a line break, another control character or half a character; remove it")
    parts = text.replace("\\", "/").split("/")
    rooted = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor
    if folders and (rooted or ".." in parts):
        return coded(
            "PATH-009",
            f"{value} leads out of its folder; write it without {'..' if '..' in parts else 'a drive or / in front'}",
        )
    if not folders and len(parts) > 1:
        return coded("PATH-009", f"{value} is part of a file name and cannot contain / or \\; remove them")
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in parts)
    if longest > LONGEST_PART - _ROOM:
        return coded("PATH-008", f"{value} has {longest} bytes, and a name may have {LONGEST_PART}; shorten it")
    return None


def _neither(path: Path | str, seen: Look, folder: bool) -> Problem:
    """The error for a path that is neither file nor folder: missing or unusable."""
    if seen.thing is Thing.MISSING:
        return coded("PATH-001", f"{shown(path)}: {missing_path(Path(path), folder=folder)}")
    return _closed(path, seen)


def _closed(path: Path | str, seen: Look) -> Problem:
    return coded(_CODES[seen.thing], f"{shown(path)}: {seen.fault}")


def _unreadable_file(path: Path | str) -> Problem | None:
    try:
        open_file(path).close()
    except PermissionError:
        return coded("PATH-004", f"{shown(path)}: this user may not read it; have its permissions changed, or make a copy")
    except OSError as error:
        return coded("PATH-010", f"{shown(path)}: cannot be opened ({error.strerror or error}); check the drive")
    return None


def _unreadable_folder(path: Path | str) -> Problem | None:
    try:
        with os.scandir(path) as entries:
            first = next(entries, None)
        if first is not None:
            os.lstat(Path(path) / first.name)  # a folder may list its names but not allow access to them
    except PermissionError:
        return coded("PATH-004", f"{shown(path)}: this user may not read the folder; have its permissions changed, or copy its content")
    except FileNotFoundError:  # deleted in the meantime
        return None
    except OSError as error:
        return coded("PATH-010", f"{shown(path)}: cannot be listed ({error.strerror or error}); check the drive")
    return None


def _unwritable(path: Path, folder: Path) -> Problem | None:
    """The error that prevents writing to `folder`, which may have to be created first, or None."""
    nearest = standing(folder)
    if nearest is None:
        return coded("PATH-010", f"{shown(path)}: the drive does not exist; use a folder that can be created")
    seen = look(nearest)
    if seen.thing is not Thing.FOLDER:
        which = f"{shown(path)}: " if path != nearest else ""
        return coded("PATH-003", f"{which}{shown(nearest)} is a file, not a folder; choose another folder")
    if not may_write(nearest):
        return coded("PATH-005", f"{shown(path)}: no permission to write in {shown(nearest)}; choose another folder")
    return None
