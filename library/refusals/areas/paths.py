"""Files and folders that options name."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "PATH",
    "files and folders that options name",
    (
        Refusal(
            "PATH-001",
            "A file or folder does not exist.",
            "Check the spelling; the line says which part of the path exists, and what has a similar name.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("PATH-002", "A folder is given where a file is expected.", "Name the file itself.", "troubleshooting.md#it-does-not-start"),
        Refusal(
            "PATH-003",
            "A file is given where a folder is expected, or blocks its path.",
            "Name a folder.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-004",
            "This user may not read a file or look into a folder.",
            "Have its permissions changed, or copy it to a folder that you own.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-005",
            "A file or a folder cannot be written where it should be.",
            "Use a folder in which this user may write, on a drive with free space."
            ' On Windows, "Controlled folder access" must allow Python.',
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-006",
            "A link leads nowhere, or in a circle.",
            "Fix the link, or use the path of its intended target.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-007",
            "A path is a pipe, a socket or a device, not a file.",
            "Use an ordinary file or folder.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("PATH-008", "A name or a path is too long for the file system.", "Shorten it.", "windows.md#names-and-long-paths"),
        Refusal(
            "PATH-009",
            "A name contains a character that is not allowed, or leads out of its folder.",
            "Write it without.",
            "windows.md#names-and-long-paths",
        ),
        Refusal(
            "PATH-010", "A drive does not answer.", "Check that it is connected, and try again.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal(
            "PATH-011",
            "A file or folder already exists and would be overwritten.",
            "Choose another name, or move the existing one.",
            "troubleshooting.md#it-does-not-start",
        ),
    ),
)
