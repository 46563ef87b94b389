"""How modules of any kind change their weight, and how that change is limited to a norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from library.lora.files import ModuleWeights, with_inputs
from library.lora.layers import LoRALayer, delta_norm, delta_weight
from library.lora.variants.dora import dora_weight, shaped


def weight_change(weight: Tensor, module: ModuleWeights, multiplier: float) -> Tensor:
    """Return the change of a `weight` (float32) by a module at `multiplier`: multiplier · ΔW, or for DoRA multiplier · (W′ − W)."""
    down, up = with_inputs(module.down, weight.shape[1]).to(weight.device), module.up.to(weight.device)
    if module.magnitude is None:
        return delta_weight(down, up, multiplier * module.alpha / module.rank)
    magnitude = shaped(module.magnitude.to(weight), weight.shape)
    assert magnitude is not None, "the network was made of these weights"
    return multiplier * (dora_weight(weight + delta_weight(down, up, module.alpha / module.rank), magnitude) - weight)


def limit_norms(layers: Sequence[LoRALayer], max_norm: float) -> tuple[int, float, float]:
    """As `LoRANetwork.apply_max_norm_regularization`, for these layers of plain LoRA."""
    if not layers:
        return 0, 0.0, 0.0
    norms = torch.stack([layer.scale * delta_norm(layer.lora_down.weight, layer.lora_up.weight) for layer in layers])
    ratios = (max_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
    for layer, ratio, root in zip(layers, ratios.unbind(), ratios.sqrt().unbind(), strict=True):
        trained = layer.trained()
        for weight in trained:
            weight.mul_(root if len(trained) == 2 else ratio)
    after = norms * ratios
    scaled, mean, largest = torch.stack([(ratios < 1).sum().float(), after.mean(), after.max()]).tolist()
    return int(scaled), mean, largest
