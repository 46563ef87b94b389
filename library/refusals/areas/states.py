"""Resuming from a state: --resume."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "STATE",
    "resuming from a state: --resume",
    (
        Refusal("STATE-001", "A folder is not a state, or does not exist.", "Use a folder that ends in -state.", "resume.md#continue"),
        Refusal("STATE-002", "A state is damaged or incomplete.", "Copy it again, or use an older one.", "resume.md#continue"),
        Refusal(
            "STATE-003",
            "A state was written by another version of the suite.",
            "Use that version, or start from the saved weights.",
            "resume.md#when-the-command-is-not-the-same",
        ),
        Refusal(
            "STATE-004",
            "A state is from another script, optimizer or schedule.",
            "Resume with the script and the options of the state.",
            "resume.md#when-the-command-is-not-the-same",
        ),
        Refusal(
            "STATE-005",
            "A state has other weights than this run trains.",
            "Use the model, the network and the learning rates of the state.",
            "resume.md#when-the-command-is-not-the-same",
        ),
        Refusal("STATE-006", "The run has done all its updates.", "Raise --max_train_steps or --max_train_epochs.", "resume.md#continue"),
        Refusal(
            "STATE-007",
            "The run ended early, since the validation loss no longer improved.",
            "Raise --early_stop_patience, or remove it.",
            "validation.md#stopping-and-resuming",
        ),
        Refusal(
            "STATE-008", "A part of the run cannot be saved in a state.", "Remove --save_state, or choose another optimizer.", "resume.md"
        ),
    ),
)
