"""Files of weights, whatever they hold."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "FILE",
    "files of weights, whatever they hold",
    (
        Refusal("FILE-001", "A file of weights cannot be read.", "Check its rights and the drive.", "troubleshooting.md#it-does-not-start"),
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
        Refusal("FILE-005", "A file is damaged, or cut short.", "Download or copy it again.", "troubleshooting.md#it-does-not-start"),
        Refusal(
            "FILE-006",
            "A file holds what no file of weights does, such as code, and was not read.",
            "Take a .safetensors file from a place that you trust.",
            "convert.md#between-ckpt-safetensors-and-diffusers",
        ),
        Refusal(
            "FILE-007",
            "A file has an ending of no kind of weights, or none.",
            "Name a .safetensors, .ckpt or .pt file.",
            "convert.md#between-ckpt-safetensors-and-diffusers",
        ),
        Refusal("FILE-008", "A file holds no tensors.", "Check the file.", "convert.md#between-ckpt-safetensors-and-diffusers"),
        Refusal(
            "FILE-009",
            "Weights hold numbers that are not finite.",
            "Take an earlier save; networks/check_lora_weights.py names the modules of a LoRA.",
            "lora_tools.md#look-into-a-lora",
        ),
    ),
)
