"""New words that a method trains: added to the model's vocabulary at their initial vectors, and saved in separate files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.console import log
from library.errors import UserError, coded
from library.method import Product
from library.model.bundle import StableDiffusion
from library.model.files.embedding_files import read_vectors, write_vectors
from library.model.new_words import NewWord, add_words, cross_attentions, embedding_table, side_by_side
from library.options.groups.textual_inversion import NewWordChoice
from library.options.word_names import suffix_of
from library.words import counted

# What a file records of its training: the word and its model, and nothing about the images.
KEPT_FACTS = {f"ss_{name}" for name in "token_string base_model_version sd_model_name new_sd_model_hash learning_rate epoch steps".split()}


class TrainedWords:
    """The vectors of all `words` in one table; with `by_layer` each cross-attention of the U-Net has separate vectors (XTI).

    `option` names the option for the files that words continue from; `vectors` (word -> [V,D]) are starts from elsewhere.
    """

    def __init__(self, words: Sequence[NewWordChoice], by_layer: bool = False, option: str = "--weights") -> None:
        self.words, self.by_layer = tuple(words), by_layer
        self.layers: tuple[str, ...] = ()
        self.table: NewWord | None = None
        self._option = option
        self._initial: Tensor | None = None  # the vectors before training
        self._places: Mapping[str, range] = {}

    def attach(self, model: StableDiffusion, starts: Mapping[str, Tensor] | None = None) -> None:
        """Add the words to the model's vocabulary; those in `starts` (word -> [1,V,D]) start with these vectors."""
        if self.by_layer:
            self.layers = tuple(cross_attentions(model.unet))
        known = starts or {}
        vectors = {word.text: self._start(model, word) if word.text not in known else known[word.text] for word in self.words}
        self._places, self.table = side_by_side(vectors)
        self._initial = self.parameter.detach().clone()
        add_words(model, self._places, self.table)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """A context in which all words have their initial vectors. For passes without gradients."""
        assert self._initial is not None, "attach comes first"
        values = self.parameter.data
        trained = values.clone()
        values.copy_(self._initial)
        try:
            yield
        finally:
            values.copy_(trained)

    @property
    def parameter(self) -> nn.Parameter:
        """The vectors [L,V,D] of all words."""
        assert self.table is not None
        return self.table.vectors

    def vectors(self, word: NewWordChoice) -> Tensor:
        """The vectors [L,V,D] of one word."""
        places = self._places[word.text]
        return self.parameter[:, places.start : places.stop]

    def group(self, learning_rate: float) -> dict[str, Any]:
        """The words as an optimizer group."""
        return {"params": [self.parameter], "lr": learning_rate, "name": "embedding"}

    def products(self, kind: str, extension: str, with_names: bool, learning_rate: float | None = None) -> list[Product]:
        """One file per word; `with_names` puts the word into the file name; `learning_rate` is set if it differs from the run's."""
        rate = {} if learning_rate is None else {"ss_learning_rate": learning_rate}
        return [self._product(word, kind, extension, with_names, rate) for word in self.words]

    def _product(self, word: NewWordChoice, kind: str, extension: str, with_names: bool, rate: Mapping[str, float]) -> Product:
        return Product(
            kind,
            extension,
            partial(self._write, word),
            suffix=suffix_of(word.text) if with_names else "",
            trigger=word.text,
            facts={"ss_token_string": word.text, **rate},
            weights=self.vectors(word).numel(),
        )

    def _write(self, word: NewWordChoice, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        said = {key: value for key, value in (metadata or {}).items() if key in KEPT_FACTS or key.startswith("modelspec.")}
        write_vectors(path, self.vectors(word), self.layers, word.text, int(said.get("ss_steps", 0)), dtype, said)

    def _start(self, model: StableDiffusion, word: NewWordChoice) -> Tensor:
        """Return the initial vectors [L,V,D] of a word."""
        table = embedding_table(model.text_encoder).weight.detach()
        if word.weights is not None:
            vectors = read_vectors(word.weights, self.layers, table.shape[1], self._option)
            check_count(word, vectors, f"{self._option} {word.weights}")
            log.info(f"{self._option} {word.weights}: training continues from this file")
            return vectors.to(table.device)
        start = _of_init_word(model, table, word) if word.init_word else _drawn(table, word.vectors)
        return start.expand(max(len(self.layers), 1), -1, -1)


def check_count(word: NewWordChoice, vectors: Tensor, where: str) -> None:
    """Raise UserError if the number of vectors in a file [L,V,D] differs from the command."""
    count = vectors.shape[1]
    if count != word.vectors:
        raise UserError(
            coded(
                "LORA-013",
                f"{where}: has {counted(count, 'vector')}, but --num_vectors_per_token is {word.vectors}; "
                f"set --num_vectors_per_token {count}",
            )
        )


def _of_init_word(model: StableDiffusion, table: Tensor, word: NewWordChoice) -> Tensor:
    ids = model.tokenizer.tokenizer(word.init_word, add_special_tokens=False).input_ids
    if not ids:
        raise UserError(coded("MODEL-014", f"--init_word {word.init_word!r}: has no word; use one such as cat, or remove it"))
    counts = (
        f"--init_word {word.init_word!r} has {counted(len(ids), 'token')} for {counted(word.vectors, 'vector')} (--num_vectors_per_token)"
    )
    if len(ids) > word.vectors:
        log.warning(f"{counts}: the rest is cut off")
    elif len(ids) < word.vectors:
        log.info(f"{counts}: {'it is' if len(ids) == 1 else 'they are'} repeated")
    return table[[ids[place % len(ids)] for place in range(word.vectors)]].float()


def _drawn(table: Tensor, vectors: int) -> Tensor:
    """Draw vectors with the mean and deviation of the vocabulary. The run has seeded torch before a method is attached."""
    drawn = torch.randn(vectors, table.shape[1]).to(table.device)  # on the CPU: the same for a model on any device
    return table.float().mean(dim=0) + drawn * table.float().std(dim=0)
