"""The tensors of a LoRA file by module, under any program's names: which belong together, their sizes, and alphas from settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from library.containers.weights_file import TensorInfo
from library.errors import UserError, coded
from library.lora.adapter_config import METADATA_KEY, AdapterConfig, adapter_configs
from library.lora.file_names import BIASES, DORA, EMBEDDING, FAMILIES, FULL, IA3, LORA, NORM, TensorName, read_name
from library.words import counted

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_SINGLE = frozenset({"alpha", "on_input"})  # tensors with one number, possibly an integer
_CORE = "lora_mid.weight"
LARGEST = 1 << 28  # numbers per weight; the largest in Stable Diffusion have 30 million (the token table 50)


@dataclass(frozen=True)
class FileLayout:
    """For each module key, its tensor names in the file by kind, and its alpha if it comes from settings instead of a tensor."""

    modules: Mapping[str, Mapping[str, str]]
    alphas: Mapping[str, float]
    strange: tuple[str, ...]  # tensors of unknown kind
    foreign: bool  # the names are those of Diffusers or PEFT
    bundled: tuple[str, ...] = ()  # tensors of embeddings that the file contains in addition to the network


def file_layout(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], path: Path, source: str) -> FileLayout:
    """Read the layout; raises UserError, with `source` first, for settings that cannot be read."""
    modules: dict[str, dict[str, str]] = {}
    places: dict[str, TensorName] = {}
    strange = []
    for name in infos:
        if name.startswith(EMBEDDING):
            continue
        place = read_name(name)
        if place is None:
            strange.append(name)
            continue
        if (other := modules.setdefault(place.key, {}).setdefault(place.kind, name)) != name:
            raise UserError(coded("LORA-002", f"{source}: {name} and {other} are the same tensor of a module; remove one of them"))
        if place.foreign:
            places[place.key] = place
    refuse_faults({key: {kind: infos[name] for kind, name in kinds.items()} for key, kinds in modules.items()}, source)
    configs = adapter_configs(metadata, path, source) if places and _has_settings(infos, metadata, path) else {}
    alphas = {
        key: configs[place.part].alpha_of(place.path, infos[modules[key]["lora_up.weight"]].shape[1])
        for key, place in places.items()
        if place.part in configs and place.path is not None and "lora_up.weight" in modules[key] and "alpha" not in modules[key]
    }
    _check_dora(configs, modules, places, source)
    bundled = tuple(name for name in infos if name.startswith(EMBEDDING))
    return FileLayout(modules, alphas, tuple(strange), bool(places), bundled)


def refuse_faults(modules: Mapping[str, Mapping[str, TensorInfo]], source: str) -> None:
    """Raise UserError, with `source` first, if a module's tensors are not valid for a LoRA or a related kind."""
    faults = {key: fault for key, kinds in modules.items() if (fault := module_fault(kinds))}
    for key, fault in faults.items():
        more = f" (and {counted(len(faults) - 1, 'more module')})" if len(faults) > 1 else ""
        raise UserError(
            coded(
                "LORA-002", f"{source}: {key} cannot be used: {fault}{more}; the file is damaged or not a LoRA; download or create it again"
            )
        )


def module_fault(kinds: Mapping[str, TensorInfo]) -> str | None:
    """Why these tensors of one module are unusable; None if they are usable. Incomplete modules are checked elsewhere."""
    for kind, info in kinds.items():
        if kind in _SINGLE and math.prod(info.shape) != 1:
            return f"its {kind} has the shape {_sizes(info.shape)}, where one number is expected"
        if kind not in _SINGLE and info.dtype not in _FLOATS:
            return f"its {kind} has whole numbers ({info.dtype}), where fractions are expected"
        if math.prod(info.shape) == 0:
            return f"its {kind} has the shape {_sizes(info.shape)}, so it is empty"
        if kind not in _SINGLE and not info.shape:
            return f"its {kind} is a single number"
    if len(names := _kinds_of_module(kinds)) > 1:
        return f"it has tensors of several kinds ({', '.join(names)})"
    if len(BIASES & kinds.keys()) > 1 or ("lora_up.bias" in kinds and not kinds.keys() >= LORA):
        return "its tensors do not match"
    shapes = {kind: info.shape for kind, info in kinds.items()}
    return _lora_fault(shapes) if LORA & kinds.keys() else _other_fault(shapes)


def _kinds_of_module(kinds: Iterable[str]) -> list[str]:
    """One tensor of each kind of module (LoRA, LoHa, LoKr, …) that has tensors here; of LoKr also of each factor's second form."""
    known = sorted(kinds)
    firsts = [next((kind for kind in known if kind in family), None) for family in FAMILIES]
    firsts.append(next((kind for kind in known if kind.startswith("lokr_")), None))
    doubled = [f"{factor}_a" for factor in ("lokr_w1", "lokr_w2") if {factor, f"{factor}_a"} <= set(known)]
    return [kind for kind in (*firsts, *doubled) if kind is not None]


def _lora_fault(shapes: Mapping[str, Sequence[int]]) -> str | None:
    for kind in (*sorted(LORA), _CORE):
        if kind in shapes and len(shapes[kind]) not in ((4,) if kind == _CORE else (2, 4)):
            return f"its {kind} has the shape {_sizes(shapes[kind])}, which is neither a matrix nor a convolution"
    if not shapes.keys() >= LORA:
        return None
    down, up = shapes["lora_down.weight"], shapes["lora_up.weight"]
    core = shapes.get(_CORE)
    if math.prod(up[2:]) != 1 or (core is not None and math.prod(down[2:]) != 1):
        return f"its lora_up {_sizes(up)} and lora_down {_sizes(down)} are both convolutions over several pixels"
    if up[1] != down[0] if core is None else tuple(core[:2]) != (up[1], down[0]):
        return f"its lora_up {_sizes(up)} and lora_down {_sizes(down)} have different ranks"
    if "lora_up.bias" in shapes and math.prod(shapes["lora_up.bias"]) != up[0]:
        return f"its lora_up.bias has the shape {_sizes(shapes['lora_up.bias'])}, its lora_up {_sizes(up)}"
    return None


def _other_fault(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """For the other kinds, run the formula on shapes without numbers to check that the tensors fit."""
    if shapes.keys() & (FULL | NORM | IA3):
        return None
    tensors = {kind: torch.empty(tuple(shape), device="meta") for kind, shape in shapes.items() if kind not in _SINGLE}
    formula: Callable[[Mapping[str, Tensor]], Tensor] = lokr if any(kind.startswith("lokr_") for kind in shapes) else loha
    try:
        change = formula(tensors)
    except KeyError:
        return None  # an incomplete module
    except (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return f"its tensors do not match each other ({', '.join(f'{kind} {_sizes(shape)}' for kind, shape in sorted(shapes.items()))})"
    if change.numel() > LARGEST:
        return f"it is made for a weight of {_sizes(change.shape)}, which no model has"
    return None


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "of a single number"


def loha(tensors: Mapping[str, Tensor]) -> Tensor:
    """alpha/rank · (A₁B₁) ⊙ (A₂B₂) (Hyeon-Woo et al. 2022, eq. 2); in Tucker form with a core [r, r, kh, kw] each (eq. 4)."""
    rank = tensors["hada_w1_b"].shape[0]
    halves = [_product(tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"], tensors.get(f"hada_t{n}")) for n in (1, 2)]
    return halves[0] * halves[1] * _scale(tensors, rank)


def lokr(tensors: Mapping[str, Tensor]) -> Tensor:
    """scale · W₁ ⊗ W₂ (LyCORIS, Yeh et al. 2024, sec. 3); scale is alpha/rank if a factor is itself a product, otherwise 1."""
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        whole = tensors.get(name)
        core = tensors.get("lokr_t2") if name == "lokr_w2" else None
        factors.append(_product(tensors[name + "_a"], tensors[name + "_b"], core) if whole is None else whole)
    first, second = factors
    ranks = [tensors[name].shape[0] for name in ("lokr_w1_b", "lokr_w2_b") if name in tensors]
    scale = _scale(tensors, ranks[0]) if ranks else 1.0
    kernel = second.shape[2:]
    product = torch.kron(first, second.flatten(1)) * scale
    return product.view(product.shape[0], -1, *kernel)


def _product(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a·b, or with a core [i, j, kh, kw] Σ core·a[i, out]·b[j, in] → [out, in, kh, kw]."""
    if core is not None:
        return torch.einsum("ijkl,io,jn->onkl", core, a, b)
    return (a.flatten(1) @ b.flatten(1)).view(a.shape[0], *b.shape[1:])


def _scale(tensors: Mapping[str, Tensor], rank: int) -> float:
    return float(tensors["alpha"]) / rank if "alpha" in tensors else 1.0


def _has_settings(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], path: Path) -> bool:
    """Whether settings belong to the file: in its metadata, or in PEFT's file next to it."""
    return METADATA_KEY in metadata or path.stem == "adapter_model" or any(name.startswith("base_model.") for name in infos)


def _check_dora(
    configs: Mapping[str, AdapterConfig], modules: Mapping[str, Mapping[str, str]], places: Mapping[str, TensorName], source: str
) -> None:
    for key, place in places.items():
        config = configs.get(place.part or "")
        if config is not None and config.use_dora and not DORA & modules[key].keys():
            raise UserError(
                coded(
                    "LORA-002",
                    f"{source}: its settings say use_dora, and {key} has no magnitude; the file is incomplete, download it again",
                )
            )
