"""Files and folders that options name."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "PATH",
    "files and folders that options name",
    (
        Refusal(
            "PATH-001",
            "There is no such file or folder.",
            "Check the spelling; the line says where the path ends, and what has a similar name.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("PATH-002", "A folder is given where a file is expected.", "Give the file itself.", "troubleshooting.md#it-does-not-start"),
        Refusal(
            "PATH-003",
            "A file is given where a folder is expected, or stands in its way.",
            "Give a folder.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-004",
            "This user may not read a file or look into a folder.",
            "Have its permissions changed, or copy it to a place of your own.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-005",
            "A file or a folder cannot be written where it should be.",
            "Give a folder in which this user may write, on a drive that has room.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-006",
            "A link leads nowhere, or in a circle.",
            "Mend the link, or give what it was meant to lead to.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "PATH-007",
            "A pipe, a socket or a device stands there, not a file.",
            "Give an ordinary file or folder.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("PATH-008", "A name or a path is too long for the file system.", "Shorten it.", "windows.md#names-and-long-paths"),
        Refusal(
            "PATH-009",
            "A name holds a sign that it cannot have, or leads out of its folder.",
            "Write it without.",
            "windows.md#names-and-long-paths",
        ),
        Refusal(
            "PATH-010", "A drive does not answer.", "Check that it is connected, and try again.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal(
            "PATH-011",
            "Something stands there already and would be overwritten.",
            "Give another name, or move what is there.",
            "troubleshooting.md#it-does-not-start",
        ),
    ),
)
