"""How a module of a network file changes its layer: ΔW of LoRA, DoRA, LoHa, LoKr, IA3, norms and full differences, and Δb of biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from library.errors import Problem, UserError, coded
from library.lora.file_layout import loha, lokr
from library.lora.file_names import BIASES, DORA_MAGNITUDE, DORA_SCALE, IA3, LORA
from library.lora.files import are_first_inputs, refuse_unknown, with_inputs
from library.lora.layers import delta_weight
from library.lora.variants.dora import dora_weight, rows, shaped
from library.surgery.network_file import NetworkFile

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def change(network: NetworkFile, key: str, weight: Tensor) -> Tensor:
    """Return the change of a `weight` [out, in(, kh, kw)] (of norms [n]) by a module at strength 1, in float32."""
    weight = weight.float()
    if network.modules[key].keys() >= IA3:
        return weight * _ia3_factors(network, key, weight)
    difference = delta(network, key, weight.shape)
    if network.is_dora(key):
        return dora_weight(weight + difference, _magnitude(network, key, weight)) - weight
    return difference


def bias_change(network: NetworkFile, key: str) -> Tensor | None:
    """Return Δb [out] of a module at strength 1 in float32; None if it does not change the bias."""
    kinds = BIASES & network.modules[key].keys()
    if not kinds:
        return None
    (kind,) = kinds
    tensors = network.sound_tensors(key)
    if kind == "lora_up.bias":  # PEFT scales it like the matrices
        module = network.lora(key)
        return tensors[kind].float() * (module.alpha / module.rank)
    return tensors[kind].float().flatten()


def delta(network: NetworkFile, key: str, shape: Sequence[int]) -> Tensor:
    """Return ΔW of a module in float32, in its weight's `shape` [out, in(, kh, kw)]; raises UserError if it does not fit that shape."""
    difference = with_inputs(own_delta(network, key), shape[1]) if len(shape) == 4 else own_delta(network, key)
    if difference.shape[0] != shape[0] or difference.numel() != torch.Size(shape).numel():
        raise UserError(misfit(network, key, tuple(difference.shape), shape))
    return difference.reshape(tuple(shape))


def own_delta(network: NetworkFile, key: str) -> Tensor:
    """Return ΔW of a module in float32, in its shape in the file."""
    if network.is_lora(key):
        module = network.lora(key)
        return delta_weight(module.down, module.up, module.alpha / module.rank)
    tensors = {kind: tensor.float() for kind, tensor in network.sound_tensors(key).items()}
    for kind in ("diff", "w_norm", "weight"):  # the last is IA3's
        if kind in tensors:
            return tensors[kind]
    return lokr(tensors) if _has(tensors, "lokr_") else loha(tensors)


def misfit(network: NetworkFile, key: str, actual: Sequence[int], wanted: Sequence[int]) -> Problem:
    """The error for a module whose size differs from the model's."""
    return coded(
        "TOOL-006",
        f"{network.source}: {key} is made for a weight of {_sizes(actual)}, the model's is {_sizes(wanted)}; "
        "the file belongs to another base model, for instance SD 2.x and not SD 1.x",
    )


def check_fit(network: NetworkFile, shapes: Mapping[str, Sequence[int]], biases: Container[str]) -> None:
    """Raise UserError, from headers alone, if modules are not in the model or LoRA modules have another size than its weights."""
    refuse_unknown([key for key in network.modules if key not in shapes], network.file.infos, network.source)
    for key, kinds in network.modules.items():
        if BIASES & kinds.keys() and key not in biases:
            raise UserError(
                coded(
                    "TOOL-006",
                    f"{network.source}: {key} changes a bias, but the model's layer has no bias; the file belongs to another model",
                )
            )
        if not kinds.keys() >= LORA:
            continue
        down, up = network.info(key, "lora_down.weight").shape, network.info(key, "lora_up.weight").shape
        kernel = network.info(key, "lora_mid.weight").shape[2:] if "lora_mid.weight" in kinds else down[2:]
        inputs = shapes[key][1] if len(down) == 4 and are_first_inputs(down[1], shapes[key][1]) else down[1]
        actual = (up[0], inputs, *kernel)
        if actual[:2] != tuple(shapes[key][:2]) or torch.Size(actual).numel() != torch.Size(shapes[key]).numel():
            raise UserError(misfit(network, key, actual, shapes[key]))


def _ia3_factors(network: NetworkFile, key: str, weight: Tensor) -> Tensor:
    """w of W ⊙ (1 + w) (Liu et al. 2022, as in LyCORIS), the factor of the weight along its inputs or outputs."""
    tensors = network.sound_tensors(key)
    factors, axis = tensors["weight"].float().flatten(), 1 if float(tensors["on_input"]) else 0
    if factors.numel() != weight.shape[axis]:
        raise UserError(misfit(network, key, (factors.numel(),), weight.shape))
    return factors.view([-1 if place == axis else 1 for place in range(weight.dim())])


def _magnitude(network: NetworkFile, key: str, weight: Tensor) -> Tensor:
    """DoRA's m (Liu et al. 2024, eq. 5) in a shape that multiplies the weight."""
    kinds = network.modules[key]
    ((_, stored),) = network.file.read([kinds.get(DORA_MAGNITUDE) or kinds[DORA_SCALE]])
    magnitude = shaped(rows(stored, weight.dim()) if DORA_MAGNITUDE in kinds else stored, weight.shape)
    if magnitude is None:
        raise UserError(misfit(network, key, tuple(stored.shape), weight.shape))
    return magnitude.float()


def _has(tensors: Mapping[str, Tensor], start: str) -> bool:
    return any(kind.startswith(start) for kind in tensors)


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
