"""What a forked child of the attack by wrong inputs does: a whole command under limits, and without root's rights."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.attack import surroundings

ROOT = Path(__file__).parents[2]
MEMORY = 6 << 30  # bytes of address space beyond what this process has
LARGEST_FILE = 1 << 30


def make(given: Mapping[str, Any]) -> int:
    """Make the sound files of all commands in the folder `place`."""
    surroundings.make(Path(given["place"]))
    return 0


def run(given: Mapping[str, Any]) -> int:
    """Run `script` with `argv` as `python script argv` does; its exit code."""
    _limit()
    script = ROOT / given["script"]
    sys.argv = [str(script), *given["argv"]]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _limit() -> None:
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    if held:
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    if os.geteuid() == 0 and sys.platform == "linux":
        from tests.paths.wrong_places import lay_down_rights

        lay_down_rights()
