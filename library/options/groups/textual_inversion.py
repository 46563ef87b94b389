"""Options of new words: of train_textual_inversion.py and train_textual_inversion_XTI.py, and of words trained with a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from library.options.bounds import MOST_RATE, MOST_STEPS
from library.options.declare import opt
from library.options.groups.saving import SavingOptions

MOST_VECTORS = 75
Value = TypeVar("Value")


@dataclass(frozen=True)
class NewWordChoice:
    """The settings of one new word; `weights` is an embedding file to continue from."""

    text: str
    vectors: int = 1
    init_word: str | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class NewWordOptions:
    """What all scripts with new words share"""

    token_string: tuple[str, ...] = opt(
        (),
        "The new word, or several separated by spaces, as written in captions and prompts; no words that the model already knows.",
    )
    init_word: tuple[str, ...] = opt(
        (),
        "A known word for something similar, such as cat, from which training starts; with several new words one for each, or one for "
        "all. Default: a random start.",
    )
    num_vectors_per_token: tuple[int, ...] = opt(
        (1,),
        "How many tokens the new word takes up; with several words one number for each, or one for all. More can learn more, and use "
        "up as many of a prompt's 75.",
        at_least=1,
        at_most=MOST_VECTORS,
    )

    @property
    def files(self) -> tuple[str, ...]:
        """The embedding files that the words start from; empty if no option names any."""
        return ()

    @property
    def makes_captions(self) -> bool:
        """Whether templates replace the captions."""
        return False

    @property
    def words(self) -> tuple[NewWordChoice, ...]:
        """The words, each with its settings; an option without a value for a word counts as not set for it."""
        texts = [text.strip() for text in self.token_string if text.strip()]
        vectors, inits = spread(self.num_vectors_per_token, len(texts)), spread(self.init_word, len(texts))
        files = (*self.files, *[None] * len(texts))
        return tuple(
            NewWordChoice(text, vectors[place] or 1, inits[place], None if (file := files[place]) is None else Path(file))
            for place, text in enumerate(texts)
        )


def spread(values: Sequence[Value], count: int) -> list[Value | None]:
    """Return the values for `count` words: one for each, or one for all; None for words without a value."""
    each = list(values) * count if len(values) == 1 else list(values)
    return [*each, *[None] * count][:count]


@dataclass(frozen=True)
class WordOptions(NewWordOptions):
    """The new word"""

    weights: tuple[str, ...] = opt((), "Continue training this embedding file; with several words one for each.", path="file")
    use_object_template: bool = opt(False, "Train with ready-made captions for an object (a photo of ...) instead of your captions.")
    use_style_template: bool = opt(False, "Train with ready-made captions for a style (a painting by ...) instead of your captions.")

    @property
    def files(self) -> tuple[str, ...]:
        """--weights."""
        return self.weights

    @property
    def makes_captions(self) -> bool:
        """Whether templates replace the captions."""
        return self.use_object_template or self.use_style_template


@dataclass(frozen=True)
class PivotalOptions(NewWordOptions):
    """New words with the network (pivotal tuning)"""

    word_weights: tuple[str, ...] = opt((), "Continue training these embedding files, one for each word.", path="file")
    embedding_lr: float | None = opt(
        None, "Learning rate of the new words, if different from --learning_rate; 1e-3 to 1e-2.", at_least=0, at_most=MOST_RATE
    )
    stop_embedding_training: int | None = opt(
        None,
        "Stop training the new words after this many updates; the network continues alone. Default: never.",
        at_least=1,
        at_most=MOST_STEPS,
    )
    save_words: str = opt(
        "side",
        "Where the new words are saved: side = each in a separate file next to the network's, bundled = inside the network's file (for "
        "AUTOMATIC1111's web UI, Forge and SD.Next), both = separate files and a bundled one.",
        choices=("side", "bundled", "both"),
    )

    @property
    def files(self) -> tuple[str, ...]:
        """--word_weights."""
        return self.word_weights


@dataclass(frozen=True)
class EmbeddingSavingOptions(SavingOptions):
    """Saving results"""

    save_model_as: str = opt(
        "pt",
        "File format of the result. pt and safetensors are read by the Web UI and by Diffusers.",
        choices=("ckpt", "pt", "safetensors"),
    )
