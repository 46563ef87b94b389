"""Files of weights, of any content."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "FILE",
    "files of weights",
    (
        Refusal(
            "FILE-001", "A file of weights cannot be read.", "Check its permissions and the drive.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal("FILE-002", "A file is empty.", "Download it again.", "troubleshooting.md#it-does-not-start"),
        Refusal(
            "FILE-003",
            "A file is a Git LFS pointer, not the weights.",
            "Run `git lfs pull`, or download the file itself.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "FILE-004",
            "A file is a web page or an image, not weights.",
            "Download the file itself.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("FILE-005", "A file is damaged or truncated.", "Download or copy it again.", "troubleshooting.md#it-does-not-start"),
        Refusal(
            "FILE-006",
            "A file contains something that no file of weights has, such as code, and was not read.",
            "Use a .safetensors file from a source that you trust.",
            "convert.md#between-ckpt-safetensors-and-diffusers",
        ),
        Refusal(
            "FILE-007",
            "A file has no extension, or one that is not for weights.",
            "Use a .safetensors, .ckpt or .pt file.",
            "convert.md#between-ckpt-safetensors-and-diffusers",
        ),
        Refusal("FILE-008", "A file has no tensors.", "Check the file.", "convert.md#between-ckpt-safetensors-and-diffusers"),
        Refusal(
            "FILE-009",
            "Weights contain numbers that are not finite.",
            "Use an earlier save; networks/check_lora_weights.py names the modules of a LoRA.",
            "lora_tools.md#look-into-a-lora",
        ),
    ),
)
