"""Disk space and writing files."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "DISK",
    "disk space, and files that are written",
    (
        Refusal(
            "DISK-001",
            "The saves of the run would not fit on the disk.",
            "Free some space, save less often, or start anyway with --on_full_disk continue.",
            "resume.md#when-the-disk-is-full",
        ),
        Refusal(
            "DISK-002",
            "A save could not be written. Earlier saves are intact.",
            "Free some space, or set a second folder with --spare_dir.",
            "resume.md#when-the-disk-is-full",
        ),
        Refusal(
            "DISK-003",
            "Not all latents could be written.",
            "Free some space and start again; finished ones are kept.",
            "caches.md#prepared-latents",
        ),
        Refusal(
            "DISK-004",
            "A result, a page or a log cannot be written.",
            "Use an existing folder in which this user may write.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "DISK-005",
            "An image cannot be put into the metadata.",
            "Use a PNG, JPEG, WebP or GIF image of at most 1 MiB.",
            "metadata.md#options",
        ),
    ),
)
