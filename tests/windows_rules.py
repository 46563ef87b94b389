"""What Windows refuses, refused here too: a file in use is neither replaced nor removed, and some names cannot be given.

An audit hook sees every call before it is made, whatever package makes it; it looks into `/proc`, so that only Linux plays Windows.
`keep()` begins it for what lies below a folder, in tests by a fixture for the session, in child processes by `tests/windows_site`.
"""

# Paths as the system hands them over:
# ruff: noqa: PTH100, PTH113, PTH115, PTH117, PTH118, PTH123, PTH206

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_FORBIDDEN = frozenset('<>:"|?*\\') | {chr(number) for number in range(32)}
_DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"})
_TIDIES = (os.path.join("_pytest", "tmpdir.py"), os.path.join("_pytest", "pathlib.py"))
_state: dict[str, str] = {}  # "folder": below which the rules are kept; empty where they are not
_hooked: list[bool] = []
_list = os.listdir  # not one that a test has put there to count


def keep(folder: Path) -> None:
    """From now on the rules hold for everything below `folder`; nothing happens on systems without /proc."""
    if not Path("/proc/self/maps").exists():
        return
    _state["folder"] = os.path.realpath(folder) + os.sep
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_look)  # for good: an audit hook cannot be taken away


def forget() -> None:
    """The rules hold no more."""
    _state.clear()


@contextlib.contextmanager
def not_here() -> Iterator[None]:
    """Inside, everything is allowed: for what a test itself does as it could only be done on another system."""
    kept = dict(_state)
    _state.clear()
    try:
        yield
    finally:
        _state.update(kept)


def name_fault(name: str) -> str | None:
    """Why no file or folder on Windows can have this name, or None."""
    if found := sorted(set(name) & _FORBIDDEN):
        return f"the signs {found}"
    if name != name.rstrip(". "):
        return "the end in a dot or blank, which Windows cuts off"
    if name.partition(".")[0].rstrip().lower() in _DEVICES:
        return "the name of a device"
    return None


def _look(event: str, arguments: tuple) -> None:
    if not _state or not event.startswith(("open", "os.")):
        return
    if event == "open":
        path, _mode, flags = arguments
        if isinstance(path, str | bytes | os.PathLike) and flags & (os.O_CREAT | os.O_TRUNC):
            _created(_full(path, -1), truncated=bool(flags & os.O_TRUNC) and not (flags & os.O_EXCL))
    elif event == "os.mkdir":
        _created(_full(arguments[0], arguments[2]))
    elif event == "os.rename":
        source, target = _full(arguments[0], arguments[2]), _full(arguments[1], arguments[3])
        _removed(source, "renamed")
        _removed(target, "replaced")
        _created(target)
    elif event == "os.remove" and not _tidied_up():  # a folder that can be removed is empty
        _removed(_full(arguments[0], arguments[1]), "removed")


def _tidied_up() -> bool:
    """Whether pytest removes the folder of a test that is over: thousands of files, and no fault would be seen."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.endswith(_TIDIES):
            return True
        frame = frame.f_back
    return False


def _full(path: str | bytes | os.PathLike, folder: int) -> str:
    """The path without links in the folders above it; "" for one that is not looked at."""
    text = os.fsdecode(path)
    if not os.path.isabs(text) and folder >= 0:
        text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
    head, tail = os.path.split(os.path.abspath(text))
    found = os.path.join(os.path.realpath(head), tail)
    return found if found.startswith(_state.get("folder", "\0")) else ""


def _created(path: str, truncated: bool = False) -> None:
    if not path:
        return
    for name in path[len(_state["folder"]) :].split(os.sep):
        if fault := name_fault(name):
            raise OSError(errno.EINVAL, f"Windows has no such names, because of {fault}", path)
    if truncated and os.path.lexists(path) and _in_use(path, mapped_only=True):
        raise OSError(errno.EINVAL, "Windows cuts no file that is mapped into memory", path)


def _removed(path: str, how: str) -> None:
    if path and os.path.lexists(path) and (use := _in_use(path)):
        raise PermissionError(errno.EACCES, f"Windows: cannot be {how}, it is {use} in this process", path)


def _in_use(path: str, mapped_only: bool = False) -> str | None:
    """How this process uses the file, or a file in the folder: "open" or "mapped" with its name; None where it does not."""
    inside = path + os.sep
    with open("/proc/self/maps", "rb") as file:
        maps = file.read()
    if os.fsencode(path) in maps:  # rarely: the lines are looked at only then
        for line in maps.decode(errors="surrogateescape").splitlines():
            name = line[73:]
            if name == path or name.startswith(inside):
                return f"mapped ({name})"
    if mapped_only:
        return None
    for number in _list("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        # an open folder is no hindrance: Python's own rmtree has it open here and not on Windows
        if (name == path or name.startswith(inside)) and os.path.isfile(name):
            return f"open ({name})"
    return None
