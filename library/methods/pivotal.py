"""Pivotal tuning: new words and a network at once, each at its own rate (Roich et al. 2021 for images; for words with LoRA: Ruiz & Ryu
2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from library.caption_rewriting import RewriteCaption, keep_caption
from library.files import atomic_write
from library.lora.bundled.words import bundle, read_words
from library.method import Product
from library.methods.network import NetworkMethod
from library.methods.network_settings import network_settings
from library.methods.trained_words import TrainedWords, check_count
from library.model.bundle import StableDiffusion
from library.model.new_words import embedding_table
from library.options.groups.scripts import TrainNetwork
from library.options.word_names import BUNDLED


@dataclass(frozen=True)
class PivotalSettings:
    """How the words are trained and saved with the network."""

    learning_rate: float
    updates: int | None = None  # after which the words are frozen; None: they are trained throughout
    saved: str = "side"  # or "bundled", or "both"
    network_weights: Path | None = None  # may contain words to continue from


class NetworkWithWords:
    """Trains `network` and `words` together; the network's part of the text encoder may be trained, stopped or left out."""

    name = "network"
    full_precision = False

    def __init__(self, network: NetworkMethod, words: TrainedWords, settings: PivotalSettings) -> None:
        self.network, self.words, self.settings = network, words, settings
        self.rewrite_caption: RewriteCaption = keep_caption
        self.set_multiplier = network.set_multiplier

    @classmethod
    def of(cls, options: TrainNetwork) -> NetworkWithWords:
        """Create it from the options of train_network.py, whose --token_string names words."""
        words, rate = options.words, options.words.embedding_lr
        settings = network_settings(options)
        pivotal = PivotalSettings(
            settings.learning_rate if rate is None else rate, words.stop_embedding_training, words.save_words, settings.weights
        )
        return cls(NetworkMethod(settings), TrainedWords(words.words, option="--word_weights"), pivotal)

    def attach(self, model: StableDiffusion) -> None:
        """Attach the network first, so that it starts as it would alone, then the words; those in its file start with the file's
        vectors."""
        self.network.attach(model)
        starts, path = {}, self.settings.network_weights
        if path is not None:
            held = {word.lower(): vectors for word, vectors in read_words(path, _width(model), "--network_weights").items()}
            for word in self.words.words:
                if word.text.lower() in held and word.weights is None:
                    starts[word.text] = held[word.text.lower()]
                    check_count(word, starts[word.text], f"--network_weights {path}: {word.text}")
        self.words.attach(model, starts)

    def modules(self) -> list[nn.Module]:
        """The network's modules and the words."""
        assert self.words.table is not None
        return [*self.network.modules(), self.words.table]

    def param_groups(self) -> list[dict[str, Any]]:
        """The network's groups and the group of the words."""
        return [*self.network.param_groups(), self.words.group(self.settings.learning_rate)]

    def trains_text_encoder(self, step: int) -> bool:
        """True while the words are trained: their gradients flow through the text encoder."""
        return self._trains_words(step) or self.network.trains_text_encoder(step)

    def _trains_words(self, step: int) -> bool:
        return self.settings.updates is None or step < self.settings.updates

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """The network's part of the text encoder and the words."""
        return [*self.network.text_encoder_parameters(), self.words.parameter]

    def uses_all_weights(self) -> bool:
        """False: a caption may contain none of the words."""
        return False

    @contextmanager
    def as_before(self) -> Iterator[StableDiffusion]:
        """Yield the model without the network, and with its new words as they were attached."""
        with self.words.as_before(), self.network.as_before() as base:
            yield base

    def go_on(self, step: int) -> None:
        """Freeze what has had its last update."""
        self.network.go_on(step)
        self.words.parameter.requires_grad_(self._trains_words(step))

    def begin_epoch(self, epoch: int) -> None:
        """Notify the network."""
        self.network.begin_epoch(epoch)

    def after_step(self, step: int) -> Mapping[str, float]:
        """Do what the network requires, and freeze the words after their last update."""
        logged = self.network.after_step(step)
        self.words.parameter.requires_grad_(self._trains_words(step + 1))
        return logged

    def describe(self) -> Mapping[str, Any]:
        """The network's keys, and those of the words."""
        words = {word.text: word.vectors for word in self.words.words}
        return {**self.network.describe(), "ss_new_words": words, "ss_embedding_lr": self.settings.learning_rate}

    def products(self, save_model_as: str | None) -> list[Product]:
        """The network's file, with the words inside, with separate files next to it, or both."""
        (alone,) = self.network.products(save_model_as)
        trigger, saved = ", ".join(word.text for word in self.words.words), self.settings.saved
        bundled = Product(self.name, alone.extension, self._write_bundled, trigger=trigger)
        if saved == "bundled":
            return [bundled]
        network = Product(self.name, alone.extension, alone.write, trigger=trigger)
        words = self.words.products("textual_inversion", alone.extension, with_names=True, learning_rate=self.settings.learning_rate)
        both = Product(self.name, alone.extension, self._write_bundled, f"-{BUNDLED}", trigger)
        return [network, *words, *([both] if saved == "both" else [])]

    def _write_bundled(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        with atomic_write(path, keep_ending=True) as fresh:
            self.network.save(fresh, dtype, metadata)
            bundle(fresh, {word.text: self.words.vectors(word)[0] for word in self.words.words}, dtype)


def _width(model: StableDiffusion) -> int:
    return embedding_table(model.text_encoder).weight.shape[1]
