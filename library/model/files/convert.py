"""Where each tensor of an original-layout file belongs in our parts, and the reverse."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from library.model.family import FAMILIES, ModelFamily, TextEncoderFacts
from library.model.files import keys

if TYPE_CHECKING:
    from torch import Tensor

Rows = Iterable[tuple[str, str]]
MOST_BLOCKS = 99  # blocks of one kind; Stable Diffusion has up to 25
OPEN_CLIP_H_LAYERS = 24  # of OpenCLIP ViT-H; Stable Diffusion 2 does not use the last one


@dataclass(frozen=True)
class Place:
    """The place of one original tensor in our parts; several names are stacked along its first axis."""

    part: str  # "unet", "vae" or a text encoder of `ModelFamily.text_parts`
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Blocks:
    """The structure of a U-Net: levels, resnets per down level, and the levels with attention."""

    levels: int
    layers: int
    attention: tuple[bool, ...]


def places(names: Iterable[str]) -> dict[str, Place]:
    """Map original names to places in our parts; names that are not used (EMA, schedules, …) are left out."""
    in_file = {keys.classic_name(name): name for name in names}
    return {in_file[name]: place for name, place in _classic_places(list(in_file)).items()}


def _classic_places(names: list[str]) -> dict[str, Place]:
    places_by_name: dict[str, Place] = {}
    unet = _under(names, keys.UNET)
    if unet:
        places_by_name.update(_renamed(unet, keys.UNET, dict(_unet_rows(_original_blocks(unet))), "unet"))
    vae_prefix = keys.VAE if any(name.startswith(keys.VAE) for name in names) else ""
    vae = _under(names, vae_prefix)
    if any(name.startswith("decoder.") for name in vae):
        levels, layers = _count(vae, r"encoder\.down\.(\d+)\."), _count(vae, r"encoder\.down\.0\.block\.(\d+)\.")
        places_by_name.update(_renamed(vae, vae_prefix, dict(_vae_rows(levels, layers)), "vae"))
    for encoder in dict.fromkeys(encoder for family in FAMILIES.values() for encoder in family.text_encoders):
        places_by_name.update(_text_places(names, encoder))
    return places_by_name


def modern_text_name(name: str) -> str | None:
    """Return the current name of a tensor in a Diffusers text encoder, without the level that transformers dropped; None for other
    tensors.

    Other tensors are the position ids and the rest of CLIP: projections, their scale, and the vision model.
    """
    bare = name.removeprefix(keys.TEXT_LEVEL)
    if bare.endswith("position_ids") or bare.partition(".")[0] in keys.CLIP_BESIDE_TEXT:
        return None
    return bare


def original_places(part: str, names: Iterable[str], family: ModelFamily) -> dict[str, Place]:
    """Return the original-layout names for all tensors `names` of our `part`, for a model without an original file."""
    names = list(names)
    if part in family.text_parts:
        return _original_text_places(part, names, family.text_parts[part])
    if part == "unet":
        rows, prefix = _reversed(_unet_rows(_diffusers_blocks(names))), keys.UNET
    else:
        levels, layers = _count(names, r"encoder\.down_blocks\.(\d+)\."), _count(names, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")
        rows, prefix = _reversed(_vae_rows(levels, layers)), keys.VAE
    return {prefix + _certain_name(name, rows): Place(part, (name,)) for name in names}


def _original_text_places(part: str, names: list[str], encoder: TextEncoderFacts) -> dict[str, Place]:
    if encoder.layout == "transformers":
        return {encoder.prefix + keys.TEXT_LEVEL + name: Place(part, (name,)) for name in names}
    layers = _count(names, r"encoder\.layers\.(\d+)\.")
    fused, rows = dict(_open_clip_fused(layers)), _reversed(_open_clip_rows(layers))
    stacked = {ours for group in fused.values() for ours in group}
    single = {encoder.prefix + _certain_name(name, rows): Place(part, (name,)) for name in names if name not in stacked}
    return single | {encoder.prefix + original: Place(part, group) for original, group in fused.items()}


def live_shapes(place: Place, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes in our parts of an original tensor of `shape`."""
    if len(place.names) > 1:
        return {name: (shape[0] // len(place.names), *shape[1:]) for name in place.names}
    return {place.names[0]: shape[:2] if _is_vae_attention(place) else shape}


def has_fitting_shape(place: Place, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of `shape` can be split as `place` says."""
    if len(place.names) > 1:
        return bool(shape) and shape[0] % len(place.names) == 0
    return not _is_vae_attention(place) or all(size == 1 for size in shape[2:])


def to_parts(place: Place, tensor: Tensor) -> dict[str, Tensor]:
    """Convert one original tensor to ours: split fused projections, and turn 1×1 convolutions of the VAE's attention into linear layers."""
    shapes = live_shapes(place, tuple(tensor.shape))
    if len(shapes) == 1:
        return {name: tensor.reshape(shape) for name, shape in shapes.items()}
    # Separate copies: views of one tensor would share memory, which optimizers and savers mistake for tied weights.
    return {name: piece.clone() for name, piece in zip(shapes, tensor.chunk(len(shapes)), strict=True)}


def to_original(place: Place, state: Mapping[str, Tensor], dimensions: int | None = None) -> Tensor:
    """Build the original tensor from our `state`; `dimensions` is its number of axes (None: as original files usually have)."""
    import torch

    pieces = [state[name].detach() for name in place.names]
    tensor = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    if dimensions is None:
        dimensions = original_dimensions(place, tensor.ndim)
    return tensor.reshape(tuple(tensor.shape) + (1,) * (dimensions - tensor.ndim))


def original_dimensions(place: Place, dimensions: int) -> int:
    """Return how many axes original files usually give a tensor with `dimensions` here: there, the VAE's attention is convolutions."""
    return 4 if _is_vae_attention(place) and dimensions == 2 else dimensions


def modern_vae_name(name: str) -> str:
    """Return the current name of a tensor in a Diffusers VAE; folders from 2022 have other names."""
    for old, new in keys.VAE_OLD_DIFFUSERS if ".attentions." in name else ():
        name = name.replace(old, new)
    return name


def _is_vae_attention(place: Place) -> bool:
    return place.part == "vae" and ".attentions." in place.names[0] and place.names[0].endswith("weight") and "norm" not in place.names[0]


def _under(names: Iterable[str], prefix: str) -> list[str]:
    return [name[len(prefix) :] for name in names if name.startswith(prefix)]


def _count(names: Iterable[str], pattern: str) -> int:
    """Return 1 + the highest number that the group in `pattern` matches in `names`, ignoring numbers too high for any model."""
    numbers = [int(match[1]) for name in names if (match := re.match(pattern, name)) and len(match[1]) <= len(str(MOST_BLOCKS))]
    return 1 + max((number for number in numbers if number < MOST_BLOCKS), default=-1)


def _rename(name: str, rows: Mapping[str, str]) -> str | None:
    """Replace the longest prefix of `name` that is in `rows`; None if no prefix is."""
    head, tail = name, ""
    while head:
        if head in rows:
            return rows[head] + tail
        head, dot, last = head.rpartition(".")
        tail = dot + last + tail
    return None


def _certain_name(name: str, rows: Mapping[str, str]) -> str:
    renamed = _rename(name, rows)
    assert renamed is not None, f"{name} is in no row"
    return renamed


def _renamed(names: Iterable[str], prefix: str, rows: Mapping[str, str], part: str) -> dict[str, Place]:
    renamed = ((name, _rename(name, rows)) for name in names)
    return {prefix + name: Place(part, (ours,)) for name, ours in renamed if ours is not None}


def _reversed(rows: Rows) -> dict[str, str]:
    return {ours: original for original, ours in rows}


def _original_blocks(names: list[str]) -> _Blocks:
    levels = 1 + sum(1 for name in names if re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", name))
    layers = _count(names, r"input_blocks\.(\d+)\.") // levels - 1
    known = set(names)
    attention = tuple(f"input_blocks.{1 + level * (layers + 1)}.1.norm.weight" in known for level in range(levels))
    return _Blocks(levels, layers, attention)


def _diffusers_blocks(names: list[str]) -> _Blocks:
    levels = _count(names, r"down_blocks\.(\d+)\.")
    known = set(names)
    attention = tuple(f"down_blocks.{level}.attentions.0.norm.weight" in known for level in range(levels))
    return _Blocks(levels, _count(names, r"down_blocks\.0\.resnets\.(\d+)\."), attention)


def _resnet(original: str, ours: str, rows: Rows) -> Iterator[tuple[str, str]]:
    for there, here in rows:
        yield f"{original}.{there}", f"{ours}.{here}"


def _unet_rows(blocks: _Blocks) -> Iterator[tuple[str, str]]:
    """The flat block numbers of the original layout and diffusers' numbers by level."""
    yield from keys.UNET_ENDS
    for original, ours in keys.UNET_MIDDLE_RESNETS:
        yield from _resnet(original, ours, keys.UNET_RESNET)
    block = 1
    for level in range(blocks.levels):
        for layer in range(blocks.layers):
            yield from _resnet(f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{layer}", keys.UNET_RESNET)
            yield f"input_blocks.{block}.1", f"down_blocks.{level}.attentions.{layer}"
            block += 1
        yield f"input_blocks.{block}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
        block += 1
    block = 0
    for level in range(blocks.levels):
        attention = blocks.attention[blocks.levels - 1 - level]
        for layer in range(blocks.layers + 1):
            yield from _resnet(f"output_blocks.{block}.0", f"up_blocks.{level}.resnets.{layer}", keys.UNET_RESNET)
            if attention:
                yield f"output_blocks.{block}.1", f"up_blocks.{level}.attentions.{layer}"
            block += 1
        yield f"output_blocks.{block - 1}.{2 if attention else 1}.conv", f"up_blocks.{level}.upsamplers.0.conv"


def _vae_rows(levels: int, layers: int) -> Iterator[tuple[str, str]]:
    """The original decoder counts its levels from the image, ours from the latents."""
    yield from keys.VAE_ENDS
    for side in ("encoder", "decoder"):
        for original, ours in keys.VAE_MIDDLE_RESNETS:
            yield from _resnet(original.format(side=side), ours.format(side=side), keys.VAE_RESNET)
        for original, ours in keys.VAE_ATTENTION:
            yield original.format(side=side), ours.format(side=side)
    for level in range(levels):
        up = levels - 1 - level
        for layer in range(layers):
            yield from _resnet(f"encoder.down.{level}.block.{layer}", f"encoder.down_blocks.{level}.resnets.{layer}", keys.VAE_RESNET)
        for layer in range(layers + 1):
            yield from _resnet(f"decoder.up.{up}.block.{layer}", f"decoder.up_blocks.{level}.resnets.{layer}", keys.VAE_RESNET)
        yield f"encoder.down.{level}.downsample.conv", f"encoder.down_blocks.{level}.downsamplers.0.conv"
        yield f"decoder.up.{up}.upsample.conv", f"decoder.up_blocks.{level}.upsamplers.0.conv"


def _open_clip_rows(layers: int) -> Iterator[tuple[str, str]]:
    yield from keys.OPEN_CLIP_ENDS
    for layer in range(layers):
        for original, ours in keys.OPEN_CLIP_LAYER:
            yield original.format(layer=layer), ours.format(layer=layer)


def _open_clip_fused(layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    for layer in range(layers):
        for original, ours in keys.OPEN_CLIP_FUSED:
            yield original.format(layer=layer), tuple(ours.format(layer=layer, one=one) for one in "qkv")


def used_open_clip_layers(names: Iterable[str]) -> int:
    """Return how many layers of an OpenCLIP text encoder Stable Diffusion 2 uses: the last one, which some files lack, is not used."""
    layers = _count(names, r"transformer\.resblocks\.(\d+)\.")
    return layers if layers == OPEN_CLIP_H_LAYERS - 1 else layers - 1


def _text_places(names: list[str], encoder: TextEncoderFacts) -> dict[str, Place]:
    """The places of a text encoder's tensors; empty if the file lacks that encoder."""
    under = _under(names, encoder.prefix)
    if encoder.layout == "open_clip":
        places = _open_clip_places(under)
    else:
        bare = {name: name.removeprefix(keys.TEXT_LEVEL) for name in under}
        heads = ("embeddings.", "encoder.", "final_layer_norm.")
        used = {name: ours for name, ours in bare.items() if not ours.endswith("position_ids") and ours.startswith(heads)}
        places = {name: Place("text_encoder", (ours,)) for name, ours in used.items()}
    return {encoder.prefix + name: place for name, place in places.items()}


def _open_clip_places(names: list[str]) -> dict[str, Place]:
    if not names:
        return {}
    layers = used_open_clip_layers(names)
    fused = {original: Place("text_encoder", ours) for original, ours in _open_clip_fused(layers)}
    places_by_name = _renamed(names, "", dict(_open_clip_rows(layers)), "text_encoder")
    places_by_name.update({name: fused[name] for name in names if name in fused})
    return places_by_name
