"""What the machine reports about NVIDIA GPUs and their driver, without PyTorch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from library.doctor.findings import one_line
from library.paths.opening import read_text

_NVIDIA = "0x10de"  # the vendor number on the PCI bus
_DISPLAY = "0x03"  # the class of display controllers


@dataclass(frozen=True)
class Driver:
    """`cards` by name; `version` of the driver; `problem` if there is a GPU or driver that does not work."""

    cards: tuple[str, ...] = ()
    version: str | None = None
    problem: str | None = None


def find_driver() -> Driver:
    """Ask nvidia-smi, else the driver's library, else the PCI bus (Linux)."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        return _ask_program(program)
    library = _ask_library()
    if library is not None:
        return library
    if any(_is_nvidia(device) for device in Path("/sys/bus/pci/devices").glob("*")):
        return Driver(problem="an NVIDIA card is present, but its driver is missing")
    return Driver()


def _ask_program(program: str) -> Driver:
    command = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired) as reason:
        return Driver(problem=f"nvidia-smi does not answer ({one_line(str(reason), 200)})")
    rows = [line.split(",", 1) for line in done.stdout.splitlines() if "," in line]
    if done.returncode == 0 and rows:
        return Driver(tuple(name.strip() for _, name in rows), rows[0][0].strip())
    said = one_line(done.stdout + " " + done.stderr, 200)
    if "No devices were found" in said:
        return Driver()
    return Driver(problem=f"nvidia-smi fails: {said or f'exit code {done.returncode}'}")


def _ask_library() -> Driver | None:
    """Ask the driver's own library (NVML); None if it is not installed."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        begun = int(library.nvmlInit_v2())
        if begun != 0:
            return Driver(problem=f"the NVIDIA driver's library answers with error {begun}; the driver is not running")
        text, count = ctypes.create_string_buffer(96), ctypes.c_uint(0)
        library.nvmlSystemGetDriverVersion(text, 96)
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    except (OSError, AttributeError):
        return None
    return Driver(tuple(f"NVIDIA card {number}" for number in range(count.value)), text.value.decode("ascii", "replace") or None)


def _is_nvidia(device: Path) -> bool:
    try:
        maker, kind = (read_text(device.joinpath(name), "ascii").strip() for name in ("vendor", "class"))
    except (OSError, UnicodeDecodeError):
        return False
    return maker == _NVIDIA and kind.startswith(_DISPLAY)
