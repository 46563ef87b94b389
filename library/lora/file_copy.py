"""A LoRA file for network modules of other packages, which read only web UI names."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch

from library.containers.pickles import contains_code
from library.containers.weights_faults import code_refusal
from library.containers.weights_file import PickleFile, SafetensorsFile, open_weights
from library.errors import UserError
from library.lora.file_layout import file_layout
from library.lora.file_names import DORA_MAGNITUDE, DORA_SCALE, read_name
from library.lora.files import read_weights


@contextlib.contextmanager
def in_web_ui_names(path: Path) -> Iterator[Path]:
    """Yield the file itself, or a temporary copy if it has names of Diffusers or PEFT, bundled embeddings, or is a pickle.

    A file of an unknown kind is yielded unchanged: its module may know it. Raises UserError for settings that cannot be read, and for a
    pickle with code that would be yielded: its module would unpickle it, and torch before 2.6 runs what it unpickles.
    """
    try:
        file = open_weights(path, "LoRA file")
    except UserError as error:
        if any(problem.code == "FILE-006" for problem in error.problems):  # code, or nothing that a network could be
            raise
        if path.suffix.lower() == ".safetensors":  # damaged for every reader
            raise
        yield path
        return
    places = [read_name(name) for name in file.infos]
    if isinstance(file, SafetensorsFile) and all(place is None or not place.foreign for place in places) and None not in places:
        file_layout(file.infos, file.metadata, path, f"LoRA file {path}")  # not valid for any module
        yield path
        return
    weights = read_weights(path)
    if not weights or any(read_name(name.replace(f".{DORA_MAGNITUDE}", f".{DORA_SCALE}")) is None for name in weights):
        if isinstance(file, PickleFile) and file.content.code:
            raise UserError(code_refusal(file.source, contains_code(file.content.code)))
        yield path
        return
    plain = {}
    for name, tensor in weights.items():
        key, _, kind = name.partition(".")
        if kind == DORA_MAGNITUDE:  # [out] or [1, out, 1, 1] in PEFT, [out, 1 …] in LyCORIS
            dimensions = weights[f"{key}.lora_down.weight"].dim()
            tensor, name = tensor.reshape(-1, *[1] * (dimensions - 1)), f"{key}.{DORA_SCALE}"
        plain[name] = tensor.contiguous()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.safetensors"
        safetensors.torch.save_file(plain, copy)
        yield copy
