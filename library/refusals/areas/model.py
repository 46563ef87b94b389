"""The model that training starts from, its VAE and its words."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "MODEL",
    "the model that training starts from, its VAE and its words",
    (
        Refusal(
            "MODEL-001",
            "The model was not found: no file, no folder, no name on the Hub.",
            "Check the spelling, or use the path of a file.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-002",
            "A model on the Hub requires accepting its terms.",
            "Accept them on its page, and log in with `hf auth login`.",
            "hub.md#the-token",
        ),
        Refusal(
            "MODEL-003",
            "A model cannot be fetched from the Hugging Face Hub, and is not on this machine.",
            "Use the path of a local file, or solve what the line names: the network, the token, the space on the disk.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-004",
            "A folder is not a complete Diffusers model.",
            "Use the whole folder, as it was downloaded.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-005",
            "The model belongs to a family that is not trained here, such as SDXL.",
            "Use a Stable Diffusion 1.x or 2.x model.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-006",
            "The model has unknown inputs: it is for depth, image editing or something similar.",
            "Use an ordinary model (4 input channels) or an inpainting model (9).",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-007",
            "A flag contradicts the weights, or is missing (--v2, --v_parameterization, --train_inpainting).",
            "Add or remove the flag that the line names.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-008", "The model has no VAE.", "Set one with --vae, or use a full checkpoint.", "troubleshooting.md#it-does-not-start"
        ),
        Refusal(
            "MODEL-009",
            "The VAE is for another model family.",
            "Use one made for Stable Diffusion 1.x or 2.x.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-010",
            "The tensors of a model do not match any known model.",
            "Download the file again; it may be incomplete.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-011",
            "A tensor of a model has an unusable shape or number format.",
            "Download the file again, or use one that is not quantized.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-012",
            "The configuration of a model cannot be read or used.",
            "Download it again.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("MODEL-013", "The tokenizer cannot be read.", "Delete the folder that the line names.", "options.md"),
        Refusal(
            "MODEL-014",
            "The new word of a Textual Inversion is already known, or the initial word is empty.",
            "Choose another word.",
            "train_textual_inversion.md",
        ),
        Refusal("MODEL-015", "A text encoder has fewer layers than --clip_skip, or the number is invalid.", "Use 1 or 2.", "options.md"),
        Refusal(
            "MODEL-016",
            "Weights are in several files, and their index or one of them is missing or wrong.",
            "Download what is missing.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-017",
            "A file is not a complete model: a LoRA, a VAE, an embedding, one part of a Diffusers model.",
            "Use a full checkpoint, or the folder with model_index.json.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal(
            "MODEL-018",
            "Several new words are too similar, or one cannot be a file name or be used by a template.",
            "Choose another word, or name it in the captions as the line says.",
            "train_textual_inversion.md#several-words-at-once",
        ),
        Refusal(
            "MODEL-019",
            "A new word that train_network.py trains (--token_string) is in no caption and no class_tokens.",
            "Write it into the captions or class_tokens of the images that show it.",
            "train_network.md#new-words-with-the-network-pivotal-tuning",
        ),
        Refusal(
            "MODEL-020",
            "Weights of a model are not finite numbers, usually after a merge that failed.",
            "Use another model, or merge it again with --save_precision float.",
            "troubleshooting.md#the-loss-is-nan-or-images-are-black",
        ),
    ),
)
