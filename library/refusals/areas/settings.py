"""Files of settings: TOML, JSON, prompts."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "CFG",
    "settings files: TOML, JSON, prompts",
    (
        Refusal("CFG-001", "A settings file is not UTF-8 text.", "Save it again with the encoding UTF-8.", "windows.md#text-files"),
        Refusal(
            "CFG-002",
            "A file is not valid TOML or JSON.",
            "Correct the line that is named; write Windows paths in 'single' quotation marks.",
            "windows.md#paths-in-toml-and-json",
        ),
        Refusal(
            "CFG-003",
            "A file has an unexpected form: a table, a list, a section.",
            "Write it as the line shows.",
            "dataset_config.md#the-shortest-file-that-trains",
        ),
        Refusal(
            "CFG-004", "A settings file cannot be opened.", "Check its permissions and the drive.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal("CFG-005", "A settings file has an unsupported extension.", "Use a file of the kind that the line names.", "options.md"),
        Refusal(
            "CFG-006",
            "A key is unknown: most likely a typo.",
            "Use the name that the line suggests, or remove the key.",
            "dataset_config.md#three-levels",
        ),
        Refusal(
            "CFG-007",
            "A key is in a section or at a level where it does not apply.",
            "Move it where the line says.",
            "dataset_config.md#three-levels",
        ),
        Refusal(
            "CFG-008",
            "A key has an invalid value.",
            "Write what the line says is expected.",
            "dataset_config.md#keys-of-a-dataset",
        ),
        Refusal("CFG-009", "A key appears twice with different values.", "Keep one of them.", "options.md"),
        Refusal(
            "CFG-010",
            "Keys contradict each other, or a key contradicts a command line option.",
            "Remove one of those that the line names.",
            "dataset_config.md#where-it-usually-goes-wrong",
        ),
        Refusal("CFG-011", "A required key is missing.", "Add it as the line shows.", "dataset_config.md#the-shortest-file-that-trains"),
        Refusal(
            "CFG-012",
            "A file is nested too deeply, or has a number with too many digits.",
            "Check the file; it is damaged, or another kind of file.",
            "dataset_config.md",
        ),
        Refusal(
            "CFG-013",
            "A prompt for samples has an invalid form, or the file has no prompts.",
            "Write it as the line says.",
            "samples.md#the-prompt-file",
        ),
    ),
)
