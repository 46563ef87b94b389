"""How tools handle words in network files: copy them into a network's file, or write them next to a model, which cannot contain them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
from torch import Tensor

from library.console import log
from library.containers.weights_file import WeightsFile
from library.files import atomic_write
from library.lora.bundled.words import read_words
from library.lora.file_names import bundled_word
from library.options.word_names import file_fault, suffix_of


def carried(files: Iterable[WeightsFile]) -> dict[str, Tensor]:
    """Return the tensors of all words in the files by name, unchanged. If several files have different vectors for a word, the first one is
    taken, with a warning."""
    tensors: dict[str, Tensor] = {}
    owners: dict[str, Path] = {}
    for file in files:
        names = [name for name in file.infos if bundled_word(name) is not None]
        own = {name: tensor.clone() for name, tensor in file.read(names)}
        for word in dict.fromkeys(word for name in names if (word := bundled_word(name)) is not None):
            mine = {name: tensor for name, tensor in own.items() if bundled_word(name) == word}
            other = owners.setdefault(word.lower(), file.path)
            if other == file.path:
                tensors |= mine
            elif any(name not in tensors or not tensors[name].equal(tensor) for name, tensor in mine.items()):
                log.warning(f"{file.path}: its word {word} is left out, {other} has another of that name; only one can be kept")
    if tensors:
        log.info(f"words kept as they are: {', '.join(dict.fromkeys(filter(None, map(bundled_word, tensors))))}")
    return tensors


def write_beside(files: Iterable[WeightsFile], save_to: Path) -> None:
    """Write the words in the network files as embedding files next to the model `save_to`."""
    stem = save_to.stem if save_to.suffix else save_to.name
    written: dict[str, Tensor] = {}
    for file in files:
        for word, vectors in read_words(file.path, None, "--models").items():
            if fault := file_fault(word):
                log.warning(f"{file.path}: its word {word!r} is left out: its file cannot be called so ({fault})")
                continue
            path = save_to.with_name(f"{stem}{suffix_of(word)}.safetensors")
            if word.lower() in written:
                if not written[word.lower()].equal(vectors):
                    log.warning(f"{file.path}: its word {word} is left out, another file has one of that name; only one can be kept")
                continue
            written[word.lower()] = vectors
            with atomic_write(path) as temporary:
                safetensors.torch.save_file({"emb_params": vectors[0]}, temporary, {"format": "pt", "ss_token_string": word})
            log.info(f"saved {path}: the word {word}, because a model file cannot contain it; put it into the embeddings folder")
