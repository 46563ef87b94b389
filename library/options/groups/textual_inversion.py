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
        "The new word, as written in your captions and later in prompts; not a word that the model already knows. Always needed.",
    )
    init_word: str | None = opt(
        None,
        "A known word for something similar, such as cat, from which training starts. Default: a random one.",
    )
    num_vectors_per_token: int = opt(
        1,
        "How many tokens the new word takes up. More can learn more, and use up as many of a prompt's 75.",
        at_least=1,
        at_most=75,
    )
    weights: str | None = opt(None, "Continue training this embedding file.", path="file")
    use_object_template: bool = opt(False, "Train with ready-made captions for an object (a photo of ...) instead of your captions.")
    use_style_template: bool = opt(False, "Train with ready-made captions for a style (a painting by ...) instead of your captions.")


@dataclass(frozen=True)
class EmbeddingSavingOptions(SavingOptions):
    """Saving results"""

    save_model_as: str = opt(
        "pt",
        "File format of the result. pt and safetensors are read by the Web UI and by Diffusers.",
        choices=("ckpt", "pt", "safetensors"),
    )
