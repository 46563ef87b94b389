"""Save a model as one file in original layout: trained parts from memory, everything else as in the source file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log
from library.containers.uncached import torch_save
from library.containers.weights_file import TensorInfo, WeightsFile, dtype_name, open_weights, write_safetensors
from library.errors import UserError
from library.files import atomic_write
from library.model.family import TextEncoderFacts
from library.model.files import convert, keys
from library.model.files.facts import OPTION
from library.parsing.whole import whole_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from library.model.bundle import StableDiffusion

# What the save precision applies to; schedules keep theirs.
NETWORKS = (keys.UNET, keys.VAE, "cond_stage_model.", "conditioner.", "model_ema.")
COUNTS = ("epoch", "global_step")  # names in `.ckpt` files
FLOATS = ("F64", "F32", "F16", "BF16")
TEXT_LOGIT_SCALE = math.log(100.0)  # where CLIP's training ends (Radford et al. 2021, sec. 2.5)


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file to write: its info and a function that returns its numbers."""

    info: TensorInfo
    value: Callable[[], Tensor]


def save_checkpoint(
    model: StableDiffusion,
    path: Path,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    trained: tuple[int, int] = (0, 0),
) -> None:
    """Write `model` to `path` (.safetensors or .ckpt), completely or not at all; adds `trained` epochs and updates to the source's
    counts.

    With `dtype` None each tensor has its dtype in the source file. Tensors that are not part of the three networks (EMA, schedules,
    OpenCLIP's unused last layer, …) are copied unchanged from the source file; `metadata` None keeps the source's. If that file is missing
    or has changed, the tensors that other programs need are generated.
    """
    path = Path(path)
    source = _source(model)
    tensors = _plan(model, source, dtype)
    counts = _counts(source, trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".safetensors":
            entries = dict(source.metadata if source is not None and metadata is None else metadata or {}) | counts
            infos = {name: tensor.info for name, tensor in tensors.items()}
            write_safetensors(temporary, infos, lambda name: tensors[name].value(), {"format": "pt", **entries})
        else:
            _write_pickle(temporary, tensors, counts)
    if model.source is not None and source is not None and path.resolve() == model.source.path.resolve():
        stat = path.stat()
        model.source = replace(model.source, stamp=(stat.st_size, stat.st_mtime_ns))


def _source(model: StableDiffusion) -> WeightsFile | None:
    """Return the source file of the model if it has this layout and has not changed."""
    facts = model.source
    if facts is None or facts.layout == "diffusers":
        return None
    try:
        stat = facts.path.stat()
        if (stat.st_size, stat.st_mtime_ns) == facts.stamp:
            return open_weights(facts.path, OPTION)
        reason = "has changed since it was loaded"
    except (OSError, UserError):
        reason = "can no longer be read"
    log.warning("%s %s; tensors that are not part of the networks (EMA, schedules) are missing in the saved model", facts.path, reason)
    return None


def _plan(model: StableDiffusion, source: WeightsFile | None, dtype: torch.dtype | None) -> dict[str, _Tensor]:
    """Return every tensor of the file to write, by its original name."""
    states = {part: network.state_dict() for part, network in model.parts.items()}
    infos = source.infos if source is not None else {}
    places = convert.places(infos)
    named = {part: {name for place in places.values() if place.part == part for name in place.names} for part in states}
    same = {part for part, state in states.items() if named[part] == set(state)}  # a part from elsewhere (--vae) may have another structure
    tensors: dict[str, _Tensor] = {}
    for name, info in infos.items():
        place = places.get(name)
        if place is None:
            assert source is not None, "the infos are its own"
            tensors[name] = _passed_through(source, name, info, dtype)
        elif place.part in same:
            tensors[name] = _from_model(place, states[place.part], dtype_name(dtype) if dtype else info.dtype, len(info.shape))
    for part in states.keys() - same:
        state = states[part]
        for name, place in convert.original_places(part, state, model.family).items():
            kind = dtype_name(dtype or state[place.names[0]].dtype)
            tensors[name] = _from_model(place, state, kind, None)
    for part, encoder in model.family.text_parts.items():
        if part not in same:
            tensors = _made_up(encoder, tensors) | tensors
    return tensors


def _from_model(place: convert.Place, state: Mapping[str, Tensor], kind: str, dimensions: int | None) -> _Tensor:
    first = tuple(state[place.names[0]].shape)
    shape = (first[0] * len(place.names), *first[1:]) if len(place.names) > 1 else first
    if dimensions is None and len(place.names) == 1:
        dimensions = convert.original_dimensions(place, len(shape))
    shape += (1,) * ((dimensions or len(shape)) - len(shape))
    return _Tensor(TensorInfo(kind, shape), lambda: convert.to_original(place, state, len(shape)))


def _passed_through(source: WeightsFile, name: str, info: TensorInfo, dtype: torch.dtype | None) -> _Tensor:
    if dtype is not None and info.dtype in FLOATS and name.startswith(NETWORKS) and info.shape:
        info = replace(info, dtype=dtype_name(dtype))
    return _Tensor(info, lambda: dict(source.read([name]))[name])


def _made_up(encoder: TextEncoderFacts, tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """Return the tensors that programs expect in a file with this text encoder in addition to those in use.

    transformers' CLIP: position ids. OpenCLIP: the last layer, whose output is never used (a copy of the one before it), its projection
    (identity) and its scale.
    """
    import torch

    if encoder.layout == "transformers":
        ids = torch.arange(77)[None]
        return {f"{encoder.prefix}{keys.TEXT_LEVEL}embeddings.position_ids": _Tensor(TensorInfo("I64", (1, 77)), lambda: ids)}
    head = encoder.prefix + "transformer.resblocks."
    layers = 1 + max(int(name[len(head) :].split(".")[0]) for name in tensors if name.startswith(head))
    last = f"{head}{layers - 1}."
    added = {f"{head}{layers}.{name[len(last) :]}": tensor for name, tensor in tensors.items() if name.startswith(last)}
    norm = tensors[encoder.prefix + "ln_final.weight"].info
    width = norm.shape[0]
    added[encoder.prefix + "text_projection"] = _Tensor(TensorInfo(norm.dtype, (width, width)), lambda: torch.eye(width))
    added[encoder.prefix + "logit_scale"] = _Tensor(TensorInfo(norm.dtype, ()), lambda: torch.tensor(TEXT_LOGIT_SCALE))
    return added


def _counts(source: WeightsFile | None, trained: tuple[int, int]) -> dict[str, str]:
    """The source's "epoch" and "global_step" plus this training; empty if nothing was counted."""
    before = source.metadata if source is not None else {}
    sums = {name: more + _number(before.get(name)) for name, more in zip(COUNTS, trained, strict=True)}
    return {name: str(count) for name, count in sums.items()} if any(trained) or before.keys() & set(COUNTS) else {}


def _number(text: str | None) -> int:
    return whole_number(text or "") or 0


def _write_pickle(path: Path, tensors: Mapping[str, _Tensor], counts: Mapping[str, str]) -> None:

    from library.containers.dtypes import torch_dtype

    # Copies: a view would be saved with its whole storage.
    state = {
        name: tensor.value().detach().to("cpu", torch_dtype(tensor.info.dtype), copy=True).contiguous() for name, tensor in tensors.items()
    }
    torch_save({"state_dict": state, **{name: int(count) for name, count in counts.items()}}, path)
