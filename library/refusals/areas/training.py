"""A run on its way."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "TRAIN",
    "a run on its way",
    (
        Refusal(
            "TRAIN-001",
            "A loss or a gradient is no finite number.",
            "Lower --learning_rate, use --mixed_precision bf16, or look at the images that the lines name.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-002",
            "Weights are no finite numbers.",
            "Go on from the last state with a lower --learning_rate.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-003",
            "fp16 cannot hold the gradients.",
            "Use --mixed_precision bf16 or no, or lower --learning_rate.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal(
            "TRAIN-004",
            "Too many updates or images were left out.",
            "Lower --learning_rate; so many are hardly at fault.",
            "resume.md#when-a-number-is-not-finite",
        ),
        Refusal("TRAIN-005", "Memory ran out.", "Do what the line names, such as a smaller batch.", "memory.md#when-it-does-not-fit"),
        Refusal("TRAIN-006", "A dry run found errors.", "Mend those that stand above.", "report.md"),
    ),
)
