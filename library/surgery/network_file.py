"""Files of LoRA and its kin opened without reading their numbers: which modules, of what kind, and one module's tensors at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from library.containers.weights_file import TensorInfo, WeightsFile, open_weights
from library.errors import UserError
from library.lora.files import ModuleWeights, kind_of_file
from library.lora.layers import STABLE_DIFFUSION

DTYPES = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LORA = frozenset({"lora_down.weight", "lora_up.weight"})
LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
FULL = frozenset({"diff"})
_LOKR = re.compile(r"lokr_(w[12](_[ab])?|t2)")
DORA = "dora_scale"
_EXTRAS = frozenset({"alpha", "lora_mid.weight", "hada_t1", "hada_t2", DORA})

# Names in files of Diffusers and PEFT: `unet.….to_q.lora_A.weight`, `….to_q.lora.down.weight`, `….attn1.processor.to_q_lora.down.weight`.
_PEFT = re.compile(
    r"(?:base_model\.model\.)?(?P<part>unet|text_encoder)\.(?P<path>.+?)[._](?:lora_(?P<letter>[AB])|lora\.(?P<side>down|up)"
    r"|lora_linear_layer\.(?P<old>down|up))(?:\.default)?\.weight"
)
_PEFT_ALPHA = re.compile(r"(?:base_model\.model\.)?(?P<part>unet|text_encoder)\.(?P<path>.+?)\.alpha")
_SIDES = {"A": "lora_down.weight", "B": "lora_up.weight", "down": "lora_down.weight", "up": "lora_up.weight"}


@dataclass(frozen=True)
class NetworkFile:
    """A network file: for each module's key the names of its tensors in the file, by what they are (`lora_down.weight`, `alpha`, …)."""

    file: WeightsFile
    modules: Mapping[str, Mapping[str, str]]
    source: str  # how messages call it
    foreign: bool = field(default=False)  # the names are those of Diffusers or PEFT

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.file.metadata

    def info(self, key: str, kind: str) -> TensorInfo:
        """Shape and dtype of one tensor of a module."""
        return self.file.infos[self.modules[key][kind]]

    def tensors(self, key: str) -> dict[str, Tensor]:
        """All tensors of a module as they stand in the file, each in memory of its own."""
        names = self.modules[key]
        read = dict(self.file.read(names.values()))
        return {kind: read[name].clone() for kind, name in names.items()}

    def sound_tensors(self, key: str) -> dict[str, Tensor]:
        """The same; raises UserError where a number is not finite, which would spoil all that is made of it."""
        tensors = self.tensors(key)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise UserError(
                f"{self.source}: {key} holds numbers that are not finite; nothing good can be made of it, take an earlier save "
                "(networks/check_lora_weights.py names all such modules)"
            )
        return tensors

    def lora(self, key: str) -> ModuleWeights:
        """A module of kind LoRA; a convolution in CP form (LoCon's `lora_mid`) is folded into an ordinary one of the same rank."""
        tensors = self.sound_tensors(key)
        down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
        if "lora_mid.weight" in tensors:  # [r, r, kh, kw] between down [r, in, 1, 1] and up [out, r, 1, 1]
            down = torch.einsum("ijkl,jn->inkl", tensors["lora_mid.weight"].float(), down.float().flatten(1))
        alpha = float(tensors["alpha"]) if "alpha" in tensors else float(down.shape[0])
        return ModuleWeights(down=down, up=up, alpha=alpha)

    def is_lora(self, key: str) -> bool:
        return self.modules[key].keys() >= LORA

    def rank(self, key: str) -> int:
        """Of a LoRA module."""
        return self.info(key, "lora_up.weight").shape[1]

    def refuse_dora(self) -> None:
        """Raise UserError where the file is a DoRA: it sets the size of the whole weight, so that it is no sum with anything."""
        if doras := [key for key, kinds in self.modules.items() if DORA in kinds]:
            raise UserError(f"{self.source}: {_listed(doras)} are DoRA, which these tools cannot add up; merge it with LyCORIS' own tools")

    def only_lora(self) -> None:
        """Raise UserError where a module is of another kind than LoRA, whose factors can be neither joined nor cut."""
        self.refuse_dora()
        if others := [key for key in self.modules if not self.is_lora(key)]:
            raise UserError(
                f"{self.source}: {_listed(others)} are no LoRA{kind_of_file(self.file.infos)}; merge it into a model with "
                "networks/merge_lora.py --sd_model, and make a LoRA of that with networks/extract_lora_from_models.py"
            )


def open_network(path: str | Path, option: str) -> NetworkFile:
    """Look into a network file; raises UserError naming `option` for anything that these tools cannot use."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{option} {path}: there is no such file; check the path")
    file = open_weights(path, option)
    source = f"{option} {path}"
    modules: dict[str, dict[str, str]] = {}
    strange, foreign = [], False
    for name in file.infos:
        place = _place(name)
        if place is None:
            strange.append(name)
            continue
        key, kind, of_peft = place
        foreign = foreign or of_peft
        modules.setdefault(key, {})[kind] = name
    if strange or not modules:
        kind = kind_of_file(file.infos)
        raise UserError(f"{source}: {_listed(strange)} cannot be used{kind}" if strange else f"{source}: holds no network's tensors")
    halves = [key for key, kinds in modules.items() if not _is_whole(kinds)]
    if halves:
        raise UserError(f"{source}: tensors of {_listed(halves)} are missing; the file is damaged, get or make it again")
    return NetworkFile(file, modules, source, foreign)


def _place(name: str) -> tuple[str, str, bool] | None:
    """(module's key, what the tensor is, whether the name is PEFT's), or None for a tensor of no known kind."""
    key, _, kind = name.partition(".")
    if key.startswith("lora_"):
        return (key, kind, False) if kind in LORA | LOHA | FULL | _EXTRAS or _LOKR.fullmatch(kind) else None
    if found := _PEFT.fullmatch(name):
        return _peft_key(found["part"], found["path"]), _SIDES[found["letter"] or found["side"] or found["old"]], True
    if found := _PEFT_ALPHA.fullmatch(name):
        return _peft_key(found["part"], found["path"]), "alpha", True
    return None


def _peft_key(part: str, path: str) -> str:
    path = path.replace(".processor.", ".")
    path = re.sub(r"\.to_out$", ".to_out.0", path)
    if part == "unet":
        return STABLE_DIFFUSION.unet + path.replace(".", "_")
    return STABLE_DIFFUSION.text_encoders[0] + path.removeprefix("text_model.").replace(".", "_")


def _is_whole(kinds: Mapping[str, str]) -> bool:
    if any(kind.startswith("lokr_") for kind in kinds):
        return all(f"lokr_{w}" in kinds or {f"lokr_{w}_a", f"lokr_{w}_b"} <= kinds.keys() for w in ("w1", "w2"))
    return any(needed <= kinds.keys() for needed in (LORA, LOHA, FULL))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
