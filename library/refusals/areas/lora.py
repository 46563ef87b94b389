"""LoRA files, kinds of network, embeddings."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "LORA",
    "LoRA files, kinds of network, embeddings",
    (
        Refusal(
            "LORA-001",
            "A file is not a LoRA, or of a kind that cannot be used here.",
            "Use another file, or the tool that the line names.",
            "lora_tools.md#files-of-other-programs",
        ),
        Refusal(
            "LORA-002",
            "Tensors of a LoRA are missing or do not match.",
            "Download or create the file again.",
            "lora_tools.md#files-of-other-programs",
        ),
        Refusal(
            "LORA-003",
            "A LoRA has modules that the model or the network lacks.",
            "Use the model or the options that it was made with.",
            "train_network.md#continue-from-a-file",
        ),
        Refusal(
            "LORA-004",
            "A LoRA has other ranks than this network.",
            "Use --dim_from_weights, or the --network_dim and --network_args that it was made with.",
            "train_network.md#continue-from-a-file",
        ),
        Refusal(
            "LORA-005",
            "A LoRA is for another model: its sizes differ.",
            "Use it with the model that it was made for (SD 1.x or 2.x).",
            "train_network.md#continue-from-a-file",
        ),
        Refusal(
            "LORA-006",
            "The settings next to a LoRA (adapter_config.json) cannot be used.",
            "Download the file again, or convert it with PEFT as the line says.",
            "lora_tools.md#files-of-other-programs",
        ),
        Refusal(
            "LORA-007",
            "An argument of --network_args is unknown or does not apply to this network.",
            "Use the name that the line suggests, or remove it.",
            "train_network.md#more-layers-convolutions-blocks-dropouts",
        ),
        Refusal(
            "LORA-008",
            "An argument of --network_args, or the rank, has an invalid value.",
            "Write what the line says is expected.",
            "train_network.md#more-layers-convolutions-blocks-dropouts",
        ),
        Refusal(
            "LORA-009",
            "Nothing of the network would be trained.",
            "Raise a rank, a weight of a block or a learning rate.",
            "train_network.md#settings-that-matter",
        ),
        Refusal(
            "LORA-010",
            "A network module is not installed, is not a network, or lacks a requested feature.",
            "Use networks.lora, or install the package that contains it.",
            "train_network.md#other-kinds-of-network",
        ),
        Refusal(
            "LORA-011",
            "A network of another package cannot be created, loaded or run.",
            "Change its arguments, or use another version or networks.lora.",
            "train_network.md#other-kinds-of-network",
        ),
        Refusal(
            "LORA-012",
            "A file is not a Textual Inversion embedding, or one of another script.",
            "Use the script that the line names, or another file.",
            "train_textual_inversion.md#a-word-for-each-layer-train_textual_inversion_xtipy",
        ),
        Refusal(
            "LORA-013",
            "An embedding is for another model, or has another number of vectors.",
            "Use it with its model, and set --num_vectors_per_token as the line says.",
            "train_textual_inversion.md#what-comes-out",
        ),
    ),
)
