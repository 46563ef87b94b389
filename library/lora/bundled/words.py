"""New words inside a network's file: `bundle_emb.WORD.string_to_param.*`, as AUTOMATIC1111's web UI, Forge and SD.Next read them.

After the prefix come WORD, which ends at the first dot, and the name of a tensor in an embedding file of that word; those programs read any
one tensor of `string_to_param`. OneTrainer writes `bundle_emb.WORD.clip_l`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from library.console import log
from library.containers.weights_file import WeightsFile, open_weights
from library.errors import UserError, coded
from library.lora.file_names import EMBEDDING, bundled_word
from library.lora.files import write_weights
from library.words import counted

_KEY = EMBEDDING + "{word}.string_to_param.*"
_ENDS = ("", "emb_params", "clip_l")  # tensor names of other programs
_FLOATS = ("F64", "F32", "F16", "BF16")


def words_in_file(path: Path, option: str) -> list[str]:
    """Return the words in a network's file."""
    file = _opened(path, option)
    return [] if file is None else list(dict.fromkeys(word for word in map(bundled_word, file.infos) if word is not None))


def read_words(path: Path, width: int | None, option: str) -> dict[str, Tensor]:
    """Read the vectors [1,V,D] of each word in a network's file, float32; empty without words. `width` is D, None for any.

    Raises UserError, with `option` at the start of its line, for vectors that are damaged or do not have the model's width.
    """
    file, where = _opened(path, option), f"{option} {path}"
    if file is None:
        return {}
    names = {name: word for name in file.infos if (word := bundled_word(name)) is not None and _is_vectors(name, word)}
    words: dict[str, Tensor] = {}
    for name, tensor in file.read(names):
        info = file.infos[name]
        if info.dtype not in _FLOATS or len(info.shape) not in (1, 2) or 0 in info.shape:
            raise UserError(coded("LORA-013", f"{where}: {name} has no vectors of a word; the file is damaged, use an older save"))
        if width not in (None, info.shape[-1]):
            raise UserError(
                coded(
                    "LORA-013",
                    f"{where}: {name} has vectors of {counted(info.shape[-1], 'number')}, the model of {width}; it is for another model",
                )
            )
        vectors = tensor.float().reshape(1, -1, info.shape[-1]).clone()
        if not vectors.isfinite().all():
            raise UserError(coded("LORA-013", f"{where}: {name} has numbers that are not finite; use an older save"))
        words.setdefault(names[name], vectors)
    return words


def bundle(path: Path, words: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    """Add the vectors [V,D] of words to the network's file at `path`; it keeps its metadata and gets hashes of the new content."""
    file = open_weights(path, "network file")
    tensors = {name: tensor.clone() for name, tensor in file.read(file.infos)}
    for word, vectors in words.items():
        tensors[_KEY.format(word=word)] = vectors.detach().to("cpu", dtype or torch.float32, copy=True).contiguous()
    metadata = {key: value for key, value in file.metadata.items() if not key.startswith("sshs_")}
    write_weights(path, tensors, metadata)


def tell_left_out(path: Path, option: str, used: Iterable[str] = ()) -> None:
    """Warn about words in a network's file that are not used."""
    known = {word.lower() for word in used}
    words = [word for word in words_in_file(path, option) if word.lower() not in known]
    if words:
        shown = " ".join(words)
        log.warning(f"{option} {path}: its words ({shown}) are left out, only the network is used; --token_string {shown} trains them on")


def _opened(path: Path, option: str) -> WeightsFile | None:
    """Open the file; None if only the network's module knows its format. Raises UserError for a damaged `.safetensors`."""
    try:
        return open_weights(path, option)
    except UserError:
        if path.suffix.lower() == ".safetensors":
            raise
        return None


def _is_vectors(name: str, word: str) -> bool:
    end = name.removeprefix(EMBEDDING + word).removeprefix(".")
    return end in _ENDS or end.startswith("string_to_param.")
