"""Room on the disk, and files that are written."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "DISK",
    "room on the disk, and files that are written",
    (
        Refusal(
            "DISK-001",
            "The saves of the run would not fit on the disk.",
            "Free some space, save less often, or start all the same with --on_full_disk continue.",
            "resume.md#when-the-disk-is-full",
        ),
        Refusal(
            "DISK-002",
            "A save could not be written. What was saved before is unharmed.",
            "Free some space, or name a second folder with --spare_dir.",
            "resume.md#when-the-disk-is-full",
        ),
        Refusal(
            "DISK-003",
            "Latents could not all be written.",
            "Make room and start again; what is done is kept.",
            "caches.md#prepared-latents",
        ),
        Refusal(
            "DISK-004",
            "A result, a page or a log cannot be written.",
            "Give a folder that exists, in which this user may write.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "DISK-005",
            "A picture cannot be put into the metadata.",
            "Give a PNG, JPEG, WebP or GIF image of 1 MiB at most.",
            "metadata.md#options",
        ),
    ),
)
