"""Textual Inversion and XTI: a new word is trained, and not one weight of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.caption_rewriting import RewriteCaption, keep_caption
from library.console import log
from library.errors import UserError, coded
from library.methods import templates
from library.model.bundle import StableDiffusion
from library.model.files.embedding_files import read_vectors, write_vectors
from library.model.new_words import NewWord, add_word, cross_attentions, embedding_table
from library.options.groups.scripts import TrainTextualInversion

# What a file tells of its making: the word and its model, and nothing of the images.
KEPT_FACTS = {f"ss_{name}" for name in "token_string base_model_version sd_model_name new_sd_model_hash learning_rate epoch steps".split()}


@dataclass(frozen=True)
class TextualInversionSettings:
    """What a user may say about the new word."""

    token_string: str
    learning_rate: float
    vectors: int = 1
    init_word: str | None = None
    weights: Path | None = None
    template: str | None = None  # "object" or "style": captions are made, not read
    by_layer: bool = False  # XTI


def word_settings(options: TrainTextualInversion) -> TextualInversionSettings:
    """The settings from the options of the two scripts."""
    word = options.word
    return TextualInversionSettings(
        token_string=word.word,
        learning_rate=options.optimizer.learning_rate,
        vectors=word.num_vectors_per_token,
        init_word=word.init_word,
        weights=None if word.weights is None else Path(word.weights),
        template=templates.asked(word),
        by_layer=options.layers_with_vectors > 1,
    )


class TextualInversionMethod:
    """Trains the vectors of the new word alone; with `by_layer` each cross-attention of the U-Net has its own (XTI)."""

    full_precision = False

    def __init__(self, settings: TextualInversionSettings) -> None:
        self.settings = settings
        self.name = "xti" if settings.by_layer else "textual_inversion"
        self.rewrite_caption: RewriteCaption = templates.rewriter(settings.template, settings.token_string) or keep_caption
        self.layers: tuple[str, ...] = ()
        self.word: NewWord | None = None

    def attach(self, model: StableDiffusion) -> None:
        """Freeze the model and put the word beside its vocabulary."""
        for part in (model.unet, *model.text_encoders, model.vae):
            part.requires_grad_(False)
        model.unet_autocast = False
        if self.settings.by_layer:
            self.layers = tuple(cross_attentions(model.unet))
        self.word = NewWord(self._start(model))
        add_word(model, self.settings.token_string, self.word)

    def _start(self, model: StableDiffusion) -> Tensor:
        """The vectors that training starts from [L,V,D]."""
        settings, table = self.settings, embedding_table(model.text_encoder).weight.detach()
        if settings.weights is not None:
            found = read_vectors(settings.weights, self.layers, table.shape[1], "--weights")
            if found.shape[1] != settings.vectors:
                raise UserError(
                    coded(
                        "LORA-013",
                        f"--weights {settings.weights}: has {found.shape[1]} vectors, but --num_vectors_per_token is {settings.vectors}; "
                        f"set --num_vectors_per_token {found.shape[1]}",
                    )
                )
            log.info(f"--weights {settings.weights}: training continues from this file")
            return found
        start = self._of_init_word(model, table) if settings.init_word else self._drawn(table)
        return start.expand(max(len(self.layers), 1), -1, -1)

    def _of_init_word(self, model: StableDiffusion, table: Tensor) -> Tensor:
        settings = self.settings
        ids = model.tokenizer.tokenizer(settings.init_word, add_special_tokens=False).input_ids
        if not ids:
            raise UserError(coded("MODEL-014", f"--init_word {settings.init_word!r}: has no word; use one such as cat, or remove it"))
        if len(ids) != settings.vectors:
            log.warning(
                f"--init_word {settings.init_word!r} has {len(ids)} tokens for {settings.vectors} vectors (--num_vectors_per_token): "
                + ("the rest is cut off" if len(ids) > settings.vectors else "they are repeated")
            )
        return table[[ids[place % len(ids)] for place in range(settings.vectors)]].float()

    def _drawn(self, table: Tensor) -> Tensor:
        """Vectors like those of the vocabulary: its mean and deviation. The run has seeded torch before a method is attached."""
        drawn = torch.randn(self.settings.vectors, table.shape[1]).to(table.device)  # on the CPU: the same wherever the model is
        return table.float().mean(dim=0) + drawn * table.float().std(dim=0)

    def modules(self) -> list[nn.Module]:
        """The new word."""
        assert self.word is not None
        return [self.word]

    def param_groups(self) -> list[dict[str, Any]]:
        """One group: the new vectors."""
        assert self.word is not None
        return [{"params": [self.word.vectors], "lr": self.settings.learning_rate, "name": "embedding"}]

    def trains_text_encoder(self, step: int) -> bool:
        """Gradients reach the word through the text encoder."""
        return True

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """None: the word is trained, and not what reads it."""
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
        """The word itself."""
        return {"ss_token_string": self.settings.token_string}

    def extension(self, save_model_as: str | None) -> str:
        """That of the format."""
        return f".{save_model_as or 'pt'}"

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the word's vectors."""
        assert self.word is not None
        said = {key: value for key, value in (metadata or {}).items() if key in KEPT_FACTS or key.startswith("modelspec.")}
        step = int(said.get("ss_steps", 0))
        write_vectors(path, self.word.vectors, self.layers, self.settings.token_string, step, dtype, said)
