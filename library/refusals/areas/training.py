"""A run in progress."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "TRAIN",
    "a run in progress",
    (
        Refusal(
            "TRAIN-001",
            "A loss or a gradient is not finite.",
            "Lower --learning_rate, use --mixed_precision bf16, or check the images that the lines name.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-002",
            "Weights are not finite.",
            "Resume from the last state with a lower --learning_rate.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-003",
            "fp16 cannot represent the gradients.",
            "Use --mixed_precision bf16 or no, or lower --learning_rate.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-004",
            "Too many updates were dropped, or too many images excluded.",
            "Lower --learning_rate; so many images are unlikely to be the cause.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal("TRAIN-005", "Memory ran out.", "Try what the line suggests, such as a smaller batch.", "memory.md#when-it-does-not-fit"),
        Refusal("TRAIN-006", "A dry run found errors.", "Fix those listed above.", "report.md"),
    ),
)
