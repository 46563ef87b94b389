"""Options of the scripts that train a new word: train_textual_inversion.py and train_textual_inversion_XTI.py."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt
from library.options.groups.saving import SavingOptions


@dataclass(frozen=True)
class WordOptions:
    """The new word"""

    @property
    def word(self) -> str:
        """--token_string as the tokenizer has it; empty where it is not given, which `check` refuses."""
        return (self.token_string or "").strip()

    @property
    def makes_captions(self) -> bool:
        """Whether templates take the place of captions."""
        return self.use_object_template or self.use_style_template

    token_string: str | None = opt(
        None,
        "The new word, as it stands in your captions and later in prompts; no word that the model knows already. Always needed.",
    )
    init_word: str | None = opt(
        None,
        "A word for something like it, such as cat, from which training starts. Left out, it starts from a random one.",
    )
    num_vectors_per_token: int = opt(
        1,
        "How many tokens the new word counts for. More can learn more, and take as many places of a prompt's 75.",
        at_least=1,
        at_most=75,
    )
    weights: str | None = opt(None, "Go on from this trained embedding file.", path="file")
    use_object_template: bool = opt(False, "Train with ready-made captions for a thing (a photo of ...) instead of your own.")
    use_style_template: bool = opt(False, "Train with ready-made captions for a style (a painting by ...) instead of your own.")


@dataclass(frozen=True)
class EmbeddingSavingOptions(SavingOptions):
    """Saving results"""

    save_model_as: str = opt(
        "pt",
        "File format of the result. pt and safetensors are read by the Web UI and by Diffusers.",
        choices=("ckpt", "pt", "safetensors"),
    )
