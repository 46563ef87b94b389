"""Textual Inversion and XTI: new words are trained, and not one weight of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from library.caption_rewriting import RewriteCaption, keep_caption
from library.method import Product
from library.methods import templates
from library.methods.trained_words import TrainedWords
from library.model.bundle import StableDiffusion
from library.options.groups.scripts import TrainTextualInversion
from library.options.groups.textual_inversion import NewWordChoice


@dataclass(frozen=True)
class TextualInversionSettings:
    """What a user may say about the new words."""

    words: Sequence[NewWordChoice]
    learning_rate: float
    template: str | None = None  # "object" or "style": captions are made, not read
    by_layer: bool = False  # XTI


def word_settings(options: TrainTextualInversion) -> TextualInversionSettings:
    """The settings from the options of the two scripts."""
    return TextualInversionSettings(
        words=options.word.words,
        learning_rate=options.optimizer.learning_rate,
        template=templates.asked(options.word),
        by_layer=options.layers_with_vectors > 1,
    )


class TextualInversionMethod:
    """Trains the vectors of the new words alone; with `by_layer` each cross-attention of the U-Net has its own (XTI)."""

    full_precision = False

    def __init__(self, settings: TextualInversionSettings) -> None:
        self.settings = settings
        self.name = "xti" if settings.by_layer else "textual_inversion"
        texts = [word.text for word in settings.words]
        self.rewrite_caption: RewriteCaption = templates.rewriter(settings.template, texts) or keep_caption
        self.words = TrainedWords(settings.words, settings.by_layer)

    def attach(self, model: StableDiffusion) -> None:
        """Freeze the model and put the words beside its vocabulary."""
        for part in (model.unet, *model.text_encoders, model.vae):
            part.requires_grad_(False)
        model.unet_autocast = False
        self.words.attach(model)

    def modules(self) -> list[nn.Module]:
        """The new words."""
        assert self.words.table is not None
        return [self.words.table]

    def param_groups(self) -> list[dict[str, Any]]:
        """One group: the new vectors."""
        return [self.words.group(self.settings.learning_rate)]

    def trains_text_encoder(self, step: int) -> bool:
        """Gradients reach the words through the text encoder."""
        return True

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """None: the words are trained, and not what reads them."""
        return []

    def uses_all_weights(self) -> bool:
        """Not where a caption has none of the words."""
        return False

    def go_on(self, step: int) -> None:
        """Nothing is frozen on the way."""

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes with the epoch."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """Nothing has to be limited or restored: the vocabulary has no gradient."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """Nothing that is not each word's own."""
        return {}

    def products(self, save_model_as: str | None) -> list[Product]:
        """A file for each word; of several each is called by its word."""
        return self.words.products(self.name, f".{save_model_as or 'pt'}", with_names=len(self.words.words) > 1)
