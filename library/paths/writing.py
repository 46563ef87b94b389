"""Whether files can be created in a folder, found by creating one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from library.paths.look import exists
from library.renaming import name_beside, patiently


def may_write(folder: Path) -> bool:
    """Whether this process may create files in the folder, which exists: it creates one, and nothing stays of it.

    Permissions alone do not show it: on Windows they leave out access lists and protected folders, on network drives the server's rules.
    A full disk is no prohibition.
    """
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return False
    try:
        _create(folder)
    except FileNotFoundError:  # what Windows answers where its protection of folders stops a program
        return not exists(folder)
    except OSError as fault:  # the write itself reports a full or broken drive
        return fault.errno not in (errno.EACCES, errno.EPERM, errno.EROFS)
    return True


def _create(folder: Path) -> None:
    """Create a file in the folder and remove it. Raises the OSError of the creation."""
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is not None:  # Linux: this file has no name, and a kill leaves nothing
        with contextlib.suppress(OSError):  # some drives need a name
            os.close(os.open(folder, nameless | os.O_WRONLY, 0o600))
            return
    file = name_beside(folder / "probe", "tmp")  # swept like any incomplete file, should it stay
    file.open("xb").close()
    with contextlib.suppress(OSError):
        patiently(file.unlink)
