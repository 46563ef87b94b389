"""Tools that prepare data, convert models and work on LoRAs."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "TOOL",
    "tools that prepare data, convert models and work on LoRAs",
    (
        Refusal(
            "TOOL-001",
            "A tool could not process some of its files, but processed all others.",
            "Fix what the lines above name, and run the tool again.",
            "captions_and_tags.md#what-you-can-rely-on",
        ),
        Refusal("TOOL-002", "A tool found nothing to do.", "Check what the line names.", "captions_and_tags.md#where-people-stumble"),
        Refusal(
            "TOOL-003",
            "A captioning or tagging model cannot be loaded, or is another kind of model.",
            "Download it again, or use the one that the line names.",
            "captions_and_tags.md#step-by-step",
        ),
        Refusal(
            "TOOL-004",
            "A text length does not suit the captioning model.",
            "Change it as the line says.",
            "captions_and_tags.md#step-by-step",
        ),
        Refusal(
            "TOOL-005",
            "LoRAs cannot be merged as they are.",
            "Do as the line says, or use networks/svd_merge_lora.py.",
            "lora_tools.md#merge-loras-into-one-lora",
        ),
        Refusal(
            "TOOL-006",
            "A LoRA does not match the model into which it is merged.",
            "Use the model that it was made for.",
            "lora_tools.md#merge-loras-into-a-model",
        ),
        Refusal(
            "TOOL-007",
            "The two models of an extraction do not match.",
            "Use a model and one that was trained from it.",
            "lora_tools.md#make-a-lora-of-two-models",
        ),
        Refusal(
            "TOOL-008",
            "The error of a result is over --max_error; nothing was written.",
            "Raise the limit, the rank or the precision.",
            "lora_tools.md#the-receipt",
        ),
        Refusal(
            "TOOL-009",
            "Metadata cannot be written as given, or an entry does not exist.",
            "Write it as the line shows; tools/show_metadata.py lists the entries.",
            "convert.md#metadata",
        ),
        Refusal(
            "TOOL-010",
            "A file has no information about a run.",
            "Use a manifest (.run.json), or a LoRA that was trained here or with sd-scripts.",
            "metadata.md#the-manifest-and-the-same-run-again",
        ),
        Refusal(
            "TOOL-011",
            "The output of a tool could not be written, for example to a file on a full disk.",
            "Free some space and run the tool again.",
            "logging.md",
        ),
    ),
)
