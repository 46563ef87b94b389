"""Python packages."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "PKG",
    "Python packages",
    (
        Refusal(
            "PKG-001",
            "A package is not installed.",
            "Run the command that the line names.",
            "troubleshooting.md#is-it-the-installation-or-my-command",
        ),
        Refusal(
            "PKG-002",
            "A package is installed but cannot be imported.",
            "Install it again, in a version for this Python and PyTorch; tools/doctor.py shows more.",
            "troubleshooting.md#is-it-the-installation-or-my-command",
        ),
        Refusal(
            "PKG-003",
            "A package is too old, or lacks a requested feature.",
            "Install the tested version as the line says.",
            "troubleshooting.md#is-it-the-installation-or-my-command",
        ),
        Refusal(
            "PKG-004",
            "A class or a module that an option names does not exist.",
            "Correct the name, or install the package that contains it.",
            "optimizers.md",
        ),
    ),
)
