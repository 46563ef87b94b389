"""Options of the tool that examines the installation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from library.options.declare import Tool, opt


@dataclass(frozen=True)
class DoctorOptions:
    """What is printed"""

    report: bool = opt(False, "Print a text to paste into a bug report: versions and findings, without names, paths and secrets.")


@dataclass(frozen=True)
class Doctor(Tool):
    """Examine the installation, and what a command uses: `python tools/doctor.py -- train_network.py --output_dir out ...`"""

    name: ClassVar[str] = "tools/doctor.py"

    printed: DoctorOptions


DOCTOR_TOOLS = (Doctor,)
