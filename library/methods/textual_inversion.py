"""Textual Inversion and XTI: only new words are trained, no weight of the model."""

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
    """The settings of the new words."""

    words: Sequence[NewWordChoice]
    learning_rate: float
    template: str | None = None  # "object" or "style": captions are generated, not read
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
    """Trains only the vectors of the new words; with `by_layer` each cross-attention of the U-Net has separate ones (XTI)."""

    full_precision = False

    def __init__(self, settings: TextualInversionSettings) -> None:
        self.settings = settings
        self.name = "xti" if settings.by_layer else "textual_inversion"
        texts = [word.text for word in settings.words]
        self.rewrite_caption: RewriteCaption = templates.rewriter(settings.template, texts) or keep_caption
        self.words = TrainedWords(settings.words, settings.by_layer)

    def attach(self, model: StableDiffusion) -> None:
        """Freeze the model and add the words to its vocabulary."""
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
        """True: the words get their gradients through the text encoder."""
        return True

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """Empty: only the words are trained, not the text encoder."""
        return []

    def uses_all_weights(self) -> bool:
        """False: a caption may contain none of the words."""
        return False

    def go_on(self, step: int) -> None:
        """Do nothing: nothing is frozen during the run."""

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: nothing changes with the epoch."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """Do nothing: the vocabulary has no gradient, so nothing must be limited or restored."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """Empty: all metadata belongs to a single word."""
        return {}

    def products(self, save_model_as: str | None) -> list[Product]:
        """One file per word; with several words, each file name contains its word."""
        return self.words.products(self.name, f".{save_model_as or 'pt'}", with_names=len(self.words.words) > 1)
