"""Files of settings: TOML, JSON, prompts."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "CFG",
    "files of settings: TOML, JSON, prompts",
    (
        Refusal("CFG-001", "A file of settings is not UTF-8 text.", "Save it again with the encoding UTF-8.", "windows.md#text-files"),
        Refusal(
            "CFG-002",
            "A file is not valid TOML or JSON.",
            "Correct the line that is named; Windows paths stand in 'single' quotation marks.",
            "windows.md#paths-in-toml-and-json",
        ),
        Refusal(
            "CFG-003",
            "A file has another form than is expected: a table, a list, a section.",
            "Write it as the line shows.",
            "dataset_config.md#the-shortest-file-that-trains",
        ),
        Refusal(
            "CFG-004", "A file of settings cannot be opened.", "Check its rights and the drive.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal(
            "CFG-005", "A file of settings has an ending that is not read.", "Give a file of the kind that the line names.", "options.md"
        ),
        Refusal(
            "CFG-006",
            "A key is unknown: most likely a slip.",
            "Take the name that the line proposes, or take the key out.",
            "dataset_config.md#three-levels",
        ),
        Refusal(
            "CFG-007",
            "A key stands in a section or at a level where it has no meaning.",
            "Move it where the line says.",
            "dataset_config.md#three-levels",
        ),
        Refusal(
            "CFG-008",
            "A key has a value that it does not take.",
            "Write what the line says is expected.",
            "dataset_config.md#keys-of-a-dataset",
        ),
        Refusal("CFG-009", "A key stands twice with different values.", "Keep one of them.", "options.md"),
        Refusal(
            "CFG-010",
            "Keys contradict one another, or a key a command line option.",
            "Remove one of those that the line names.",
            "dataset_config.md#where-it-usually-goes-wrong",
        ),
        Refusal(
            "CFG-011", "A key that is needed is missing.", "Add it as the line shows.", "dataset_config.md#the-shortest-file-that-trains"
        ),
        Refusal(
            "CFG-012",
            "A file is nested deeper, or holds a number of more digits, than any such file.",
            "Take the right file; this one is damaged or no such file.",
            "dataset_config.md",
        ),
        Refusal(
            "CFG-013",
            "A prompt for samples is written otherwise than prompts are, or the file has none.",
            "Write it as the line says.",
            "samples.md#the-prompt-file",
        ),
    ),
)
