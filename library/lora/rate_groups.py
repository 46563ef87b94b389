"""Which weights of a network share a learning rate: by part, by block of the U-Net, and by up and down (LoRA+)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from library.errors import UserError, coded
from library.lora.blocks import block_index, block_label
from library.lora.layers import Group, LoRALayer


def part_groups(label: str, layers: Mapping[str, LoRALayer], lr: float | None, up_ratio: float) -> Iterator[Group]:
    """The groups of one part of the model, none if its rate is 0; `up_ratio` times the rate for the up matrices (LoRA+)."""
    if lr != 0 and layers:
        yield from _groups(label, layers.values(), lr, up_ratio)


def block_groups(
    label: str,
    layers: Mapping[str, LoRALayer],
    paths: Mapping[str, str],
    outside: frozenset[str],
    lr: float | None,
    lr_weights: tuple[float, ...],
    up_ratio: float,
) -> Iterator[Group]:
    """As `part_groups` for the U-Net, one group per block: `unet_IN04`, `unet_MID`, `unet_OUT11`; `lr_weights` are 25 factors of the
    rate.

    `paths` are the patched modules by key; those of `outside` are in no block.
    """
    if lr == 0 or not layers:
        return
    if lr is None:
        raise UserError(
            coded("OPT-009", "--network_args down_lr_weight, mid_lr_weight, up_lr_weight: need a learning rate to scale; set --unet_lr")
        )
    blocks: dict[int, list[LoRALayer]] = {}
    for key, layer in layers.items():
        if key not in outside:
            blocks.setdefault(block_index(paths[key]), []).append(layer)
    for index in sorted(blocks):
        yield from _groups(f"{label}_{block_label(index)}", blocks[index], lr * lr_weights[index], up_ratio)
    rest = [layer for key, layer in layers.items() if key in outside]
    if rest:
        yield from _groups(f"{label}_outside_blocks", rest, lr, up_ratio)


def _groups(name: str, layers: Iterable[LoRALayer], lr: float | None, up_ratio: float) -> Iterator[Group]:
    """One group, or two with a ratio other than 1: A (down) at the rate, B (up) at ratio · rate (Hayou et al. 2024, section 4)."""
    trained = [(layer, parameter) for layer in layers for parameter in layer.trained()]
    if up_ratio == 1:  # one group: the order of the weights, and so all rounding, is that of a plain LoRA
        yield _group(name, [parameter for _, parameter in trained], lr)
        return
    if lr is None:
        raise UserError(
            coded("OPT-009", f"--network_args loraplus ratios: need a learning rate to multiply; set --learning_rate, for {name}")
        )
    ups = {id(layer.lora_up.weight) for layer, _ in trained}
    yield _group(name, [parameter for _, parameter in trained if id(parameter) not in ups], lr)
    yield _group(f"{name}_plus", [parameter for _, parameter in trained if id(parameter) in ups], lr * up_ratio)


def _group(name: str, parameters: list[nn.Parameter], lr: float | None) -> Group:
    group: Group = {"params": parameters, "name": name}
    return group if lr is None else {**group, "lr": lr}
