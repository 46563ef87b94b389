"""The end of a process with foreign threads: it leaves without tearing down the interpreter."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys

_code = 1  # of a script that ends with an exception
_leaves = False


def leave_at_once() -> None:
    """From now on, end this process right after its exit handlers, without Python's finalization.

    A thread of a process group (gloo) that asks for the GIL during the finalization is ended inside a C++ destructor, which aborts the
    process: "terminate called without an active exception".
    """
    global _leaves
    _leaves = True


def ending_with(code: int) -> int:
    """Remember the exit code of the script, and return it."""
    global _code
    _code = code
    return code


@atexit.register  # imported with the console, so before the modules whose handlers have to run first
def _leave() -> None:
    if not _leaves:
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(_code)
