"""The Hugging Face Hub."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "HUB",
    "the Hugging Face Hub",
    (
        Refusal("HUB-001", "A name on the Hub has an unexpected form.", "Write it as the line shows.", "hub.md"),
        Refusal(
            "HUB-002",
            "A state cannot be fetched from the Hub.",
            "Check the name, the token and the network.",
            "hub.md#continue-from-a-state-on-the-hub",
        ),
        Refusal(
            "HUB-003",
            "A folder does not exist in a repository on the Hub.",
            "Check the path and the revision.",
            "hub.md#continue-from-a-state-on-the-hub",
        ),
        Refusal(
            "HUB-004",
            "A file cannot be downloaded.",
            "Check the network, or copy the files there by hand.",
            "captions_and_tags.md#step-by-step",
        ),
    ),
)
