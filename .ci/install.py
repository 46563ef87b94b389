"""Install requirement files at the locked versions, in a few lines: `python .ci/install.py requirements.txt …`

Run it with the environment's own Python, from the root of the clone. It is what `make` calls; the plain line is
`pip install -r requirements.txt -c constraints.txt`. pip's warnings and errors pass through; of the rest, one line is
printed for each large download and one every ten seconds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 10), (3, 13)
EVERY = 10.0  # seconds between two lines about small things
LARGE = ("MB)", "GB)")  # units, in pip's words, of downloads worth a line of their own


def main(files: list[str]) -> int:
    """Exit code of pip."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:2]))
        print(f"error: this is Python {found}; install 3.10 to 3.13, then: make clean; make test PYTHON=python3.11", file=sys.stderr)
        return 2
    print(f"installing {', '.join(files)} at the versions of constraints.txt (a first time takes 1 to 10 minutes)", flush=True)
    requirements = [word for file in files for word in ("-r", file)]
    command = [sys.executable, "-m", "pip", "install", "--progress-bar", "off", *requirements, "-c", "constraints.txt"]
    began, counted = time.monotonic(), _Counted()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            counted.show(line.strip())
    if pip.returncode == 0:
        print(f"  {counted.installed or 'nothing new'} installed in {time.monotonic() - began:.0f} s", flush=True)
    return pip.returncode


class _Counted:
    """What pip has said so far, told briefly."""

    def __init__(self) -> None:
        self.packages = 0
        self.installed = ""
        self._last_line = time.monotonic()

    def show(self, line: str) -> None:
        """Print what of pip's `line` a reader waits for."""
        if line.startswith("Collecting"):
            self.packages += 1
            if time.monotonic() - self._last_line > EVERY:
                self._say(f"{self.packages} packages looked up")
        elif line.startswith("Downloading") and line.endswith(LARGE):
            name = re.match(r"Downloading (?:\S*/)?([\w.]+-[\w.+]+?)-\S* \((.*)\)", line)
            if name and (name[2].endswith("GB") or float(name[2].split()[0]) >= 20):
                self._say(f"downloading {name[1]} ({name[2]})")
        elif line.startswith("Installing collected packages"):
            self._say(f"installing {line.count(',') + 1} packages")
        elif line.startswith("Successfully installed"):
            self.installed = f"{len(line.split()) - 2} packages"
        elif line.startswith("ERROR"):
            self._say(line)

    def _say(self, text: str) -> None:
        print(f"  {text}", flush=True)
        self._last_line = time.monotonic()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
