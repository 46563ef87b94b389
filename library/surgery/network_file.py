"""Files of LoRA and related kinds opened without reading their numbers: the modules, their kinds, and one module's tensors at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from library.containers.weights_file import TensorInfo, WeightsFile, open_weights
from library.errors import UserError, coded
from library.lora.file_layout import file_layout
from library.lora.file_names import BIASES, DORA, LORA, is_whole
from library.lora.files import ModuleWeights, kind_of_file, refuse_not_finite
from library.paths.look import is_file

DTYPES = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class NetworkFile:
    """A network file: for each module's key its tensor names in the file, by kind (`lora_down.weight`, `alpha`, …)."""

    file: WeightsFile
    modules: Mapping[str, Mapping[str, str]]
    source: str  # its name in messages
    foreign: bool = False  # the names are those of Diffusers or PEFT
    alphas: Mapping[str, float] = field(default_factory=dict)  # from the file's settings, for modules without an alpha tensor

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.file.metadata

    def info(self, key: str, kind: str) -> TensorInfo:
        """Return the shape and dtype of one tensor of a module."""
        return self.file.infos[self.modules[key][kind]]

    def tensors(self, key: str) -> dict[str, Tensor]:
        """Read all tensors of a module from the file, each as a separate copy in memory."""
        names = self.modules[key]
        read = dict(self.file.read(names.values()))
        return {kind: read[name].clone() for kind, name in names.items()}

    def sound_tensors(self, key: str) -> dict[str, Tensor]:
        """As `tensors`; raises UserError if a number is not finite, since it would ruin everything computed from it."""
        tensors = self.tensors(key)
        refuse_not_finite({key: tensors.values()}, self.source)
        return tensors

    def lora(self, key: str) -> ModuleWeights:
        """Return a module of kind LoRA; a convolution in CP form (LoCon's `lora_mid`) is folded into an ordinary one of the same rank."""
        tensors = self.sound_tensors(key)
        down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
        if "lora_mid.weight" in tensors:  # [r, r, kh, kw] between down [r, in, 1, 1] and up [out, r, 1, 1]
            down = torch.einsum("ijkl,jn->inkl", tensors["lora_mid.weight"].float(), down.float().flatten(1))
        alpha = float(tensors["alpha"]) if "alpha" in tensors else self.alphas.get(key, float(down.shape[0]))
        return ModuleWeights(down=down, up=up, alpha=alpha)

    def is_lora(self, key: str) -> bool:
        return self.modules[key].keys() >= LORA

    def rank(self, key: str) -> int:
        """The rank of a LoRA module."""
        return self.info(key, "lora_up.weight").shape[1]

    def is_dora(self, key: str) -> bool:
        """Whether the module also sets the magnitude of the whole weight, so that it cannot be added to others."""
        return not DORA.isdisjoint(self.modules[key])

    def only_lora(self) -> None:
        """Raise UserError if a module is not a LoRA: factors of other kinds can be neither joined nor reduced."""
        doras = [key for key in self.modules if self.is_dora(key)]
        if others := doras or [key for key, kinds in self.modules.items() if not self.is_lora(key) or BIASES & kinds.keys()]:
            kind = "are DoRA, which depend on the model" if doras else f"are not a plain LoRA{kind_of_file(self.file.infos)}"
            raise UserError(
                coded(
                    "LORA-001",
                    f"{self.source}: {_listed(others)} {kind}; merge it into a model with "
                    "networks/merge_lora.py --sd_model, and extract a LoRA from that with networks/extract_lora_from_models.py",
                )
            )


def open_network(path: str | Path, option: str) -> NetworkFile:
    """Open a network file; raises UserError naming `option` for anything that these tools cannot use."""
    path = Path(path)
    if not is_file(path):
        raise UserError(coded("PATH-001", f"{option} {path}: the file does not exist; check the path"))
    file = open_weights(path, option)
    source = f"{option} {path}"
    layout = file_layout(file.infos, file.metadata, path, source)
    if layout.strange or not layout.modules:
        kind = kind_of_file(file.infos)
        raise UserError(
            coded(
                "LORA-001",
                f"{source}: {_listed(layout.strange)} cannot be used{kind}" if layout.strange else f"{source}: has no LoRA{kind}",
            )
        )
    halves = [key for key, kinds in layout.modules.items() if not is_whole(frozenset(kinds))]
    if halves:
        raise UserError(
            coded("LORA-002", f"{source}: tensors of {_listed(halves)} are missing; the file is damaged, download or create it again")
        )
    return NetworkFile(file, layout.modules, source, layout.foreign, layout.alphas)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
