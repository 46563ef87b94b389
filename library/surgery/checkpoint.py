"""The weights of a model that a network can patch, by network key, read one at a time from any kind of model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from library.containers.weights_file import WeightsFile, open_weights
from library.errors import UserError, coded
from library.model.family import ModelFamily, family_of_flag
from library.model.files import convert
from library.model.files.facts import ModelFacts, inspect
from library.model.files.locate import locate, part_weights

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = {"unet": re.compile(r".*\.attentions\.\d+\..*"), "text_encoder": re.compile(r"encoder\.layers\.\d+\.(self_attn|mlp)\..*")}
_EXTENDED = re.compile(r".*\.(resnets|downsamplers|upsamplers)\.\d+\..*")


@dataclass(frozen=True)
class Weight:
    """A weight matrix or convolution of U-Net or text encoder, and its place in a file; may be a part of a tensor (v2's q, k, v)."""

    key: str  # of the network module that patches it
    part: str
    path: str  # dotted, in our module
    file: WeightsFile
    name: str  # of the tensor in the file
    place: convert.Place
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """Read the weight [out, in(, kh, kw)] in the file's dtype, as a separate copy in memory."""
        ((_, tensor),) = self.file.read([self.name])
        return convert.to_parts(self.place, tensor)[self.path + ".weight"].clone()

    @property
    def is_plain(self) -> bool:
        """Whether every LoRA patches it."""
        return bool(_PLAIN[self.part].fullmatch(self.path))

    @property
    def is_extended(self) -> bool:
        """Whether a LoRA with convolutions also patches it."""
        return self.part == "unet" and not self.is_plain and bool(_EXTENDED.fullmatch(self.path))

    @property
    def is_wide_convolution(self) -> bool:
        """Whether it is a convolution over more than one pixel."""
        return len(self.shape) == 4 and self.shape[2:] != (1, 1)


@dataclass(frozen=True)
class Checkpoint:
    """A model opened without reading its weights: one file in original layout, or U-Net and text encoder of a Diffusers folder."""

    facts: ModelFacts
    files: tuple[tuple[WeightsFile, Mapping[str, convert.Place]], ...]
    weights: Mapping[str, Weight]

    @property
    def norms(self) -> dict[str, tuple[int, ...]]:
        """The weight shape of each norm, by key."""
        return {key: (size,) for key, kind, size in self._vectors() if kind == "weight"}

    @property
    def biases(self) -> frozenset[str]:
        """The keys of all modules with a bias."""
        return frozenset(key for key, kind, _ in self._vectors() if kind == "bias")

    def _vectors(self) -> Iterator[tuple[str, str, int]]:
        for file, places in self.files:
            for name, place in places.items():
                if place.part == "vae" or len(file.infos[name].shape) != 1:
                    continue
                for ours, shape in convert.live_shapes(place, file.infos[name].shape).items():
                    path, _, kind = ours.rpartition(".")
                    yield key_of(self.facts.family, place.part, path), kind, shape[0]

    @property
    def is_folder(self) -> bool:
        return self.facts.layout == "diffusers"


def open_checkpoint(path_or_id: str, option: str, v2: bool) -> Checkpoint:
    """Open a model; raises UserError naming `option` unless it is Stable Diffusion v1 or v2 and agrees with --v2."""
    facts = inspect(path_or_id, option)
    chosen = family_of_flag(v2)
    if facts.family is not chosen:
        remedy = f"remove {chosen.flag}" if chosen.flag else f"add {facts.family.flag}"
        raise UserError(coded("MODEL-007", f"{option} {facts.path.name}: is a {facts.family.title} model; {remedy}"))
    if facts.layout != "diffusers":
        file = open_weights(facts.path, option)
        files: tuple[tuple[WeightsFile, Mapping[str, convert.Place]], ...] = ((file, convert.places(file.infos)),)
    else:
        folder = locate(path_or_id, option)
        files = tuple((file, _folder_places(part, file)) for part in ("unet", "text_encoder") for file in [_of_part(folder, part, option)])
    weights = {weight.key: weight for file, places in files for weight in _weights(facts.family, file, places)}
    return Checkpoint(facts, files, weights)


def _of_part(folder: Path, part: str, option: str) -> WeightsFile:
    return open_weights(part_weights(folder / part, option), option)


def _folder_places(part: str, file: WeightsFile) -> dict[str, convert.Place]:
    named = {name: convert.modern_text_name(name) if part == "text_encoder" else name for name in file.infos}
    return {name: convert.Place(part, (ours,)) for name, ours in named.items() if ours is not None}


def key_of(family: ModelFamily, part: str, path: str) -> str:
    """The network key of a module of U-Net or text encoder at the dotted `path`."""
    prefix = family.unet.lora_prefix if part == "unet" else family.text_parts[part].lora_prefix
    return prefix + path.replace(".", "_")


def _weights(family: ModelFamily, file: WeightsFile, places: Mapping[str, convert.Place]) -> list[Weight]:
    weights = []
    for name, place in places.items():
        if place.part not in ("unet", "text_encoder"):
            continue
        for ours, shape in convert.live_shapes(place, file.infos[name].shape).items():
            path, _, kind = ours.rpartition(".")
            if kind == "weight" and len(shape) in (2, 4):
                weights.append(Weight(key_of(family, place.part, path), place.part, path, file, name, place, tuple(shape)))
    return weights
