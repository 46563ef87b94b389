"""Modules of a LoRA and its kin that are none, and a file around one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

KEY = "lora_unet_mid_block_attentions_0_proj_in"


def write_lora(path: Path, key: str = KEY, metadata: dict[str, str] | None = None, **changed: torch.Tensor | None) -> Path:
    """A LoRA with one module of rank 4 for a weight of 64×64×1×1, with `down`, `up`, `alpha` or more changed, or left out (None)."""
    sound = {"down": torch.ones(4, 64, 1, 1), "up": torch.ones(64, 4, 1, 1), "alpha": torch.tensor(4.0)}
    names = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "bias": "lora_up.bias"}
    tensors = {f"{key}.{names.get(kind, kind)}": tensor for kind, tensor in (sound | changed).items() if tensor is not None}
    save_file(tensors, path, metadata)
    return path


NAN = float("nan")
# Modules of a LoRA that are none, by what is wrong with them.
LYING_MODULES: dict[str, dict[str, torch.Tensor | None]] = {
    "rank 0": {"down": torch.ones(0, 64, 1, 1), "up": torch.ones(64, 0, 1, 1)},
    "no inputs": {"down": torch.ones(4, 0, 1, 1)},
    "ranks that differ": {"up": torch.ones(64, 8, 1, 1)},
    "a down that is a number": {"down": torch.tensor(1.0)},
    "an up that is a number": {"up": torch.tensor(1.0)},
    "a down that is a row": {"down": torch.ones(64)},
    "an up that is a row": {"up": torch.ones(64)},
    "three axes": {"down": torch.ones(4, 64, 3)},
    "six axes": {"up": torch.ones(64, 4, 1, 1, 1, 1)},
    "an up of 3×3": {"up": torch.ones(64, 4, 3, 3)},
    "alpha as a vector": {"alpha": torch.ones(4)},
    "alpha as nothing": {"alpha": torch.ones(0)},
    "alpha not a number": {"alpha": torch.tensor(NAN)},
    "alpha infinite": {"alpha": torch.tensor(float("inf"))},
    "no down": {"down": None},
    "no up": {"up": None},
    "alpha alone": {"down": None, "up": None},
    "not a number": {"down": torch.full((4, 64, 1, 1), NAN)},
    "not a number once multiplied": {"down": torch.full((4, 64, 1, 1), 3e38), "up": torch.full((64, 4, 1, 1), 3e38)},
    "alpha not a number once multiplied": {"alpha": torch.tensor(3e38)},
    "whole numbers": {"down": torch.ones(4, 64, 1, 1, dtype=torch.int64)},
    "bytes": {"up": torch.ones(64, 4, 1, 1, dtype=torch.uint8)},
    "yes and no": {"up": torch.ones(64, 4, 1, 1, dtype=torch.bool)},
    "a core of another rank": {"mid": torch.ones(8, 8, 3, 3)},
    "a core that is a matrix": {"mid": torch.ones(4, 4)},
    "a bias of another size": {"bias": torch.ones(3)},
    "a difference beside it": {"diff": torch.ones(64, 64, 1, 1)},
    "a LoHa beside it": {
        f"hada_w{kind}": torch.ones(shape) for kind, shape in (("1_a", (64, 2)), ("1_b", (2, 64)), ("2_a", (64, 2)), ("2_b", (2, 64)))
    },
    "two biases": {"bias": torch.ones(64), "diff_b": torch.ones(64)},
}


def _loha(*shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"hada_w{kind}": torch.ones(shape) for kind, shape in zip(("1_a", "1_b", "2_a", "2_b"), shapes, strict=True)}


def _lokr(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"lokr_{kind}": torch.ones(shape) for kind, shape in shapes.items()}


# Modules of other kinds that are none.
LYING_KIN: dict[str, dict[str, torch.Tensor]] = {
    "LoHa that does not multiply": _loha((8, 2), (3, 8), (8, 2), (2, 8)),
    "LoHa of single numbers": _loha((), (), (), ()),
    "LoHa of rank 0": _loha((8, 0), (0, 8), (8, 0), (0, 8)),
    "LoHa with a core that is a row": _loha((2, 8), (2, 8), (2, 8), (2, 8)) | {"hada_t1": torch.ones(2), "hada_t2": torch.ones(2)},
    "LoKr of rows": _lokr(w1=(4,), w2=(4,)),
    "LoKr for a weight of petabytes": _lokr(w1=(3000, 3000), w2=(300, 300)),
    "LoKr that does not multiply": _lokr(w1=(2, 2), w2_a=(4, 2), w2_b=(3, 4)),
    "LoKr with a factor in two forms": _lokr(w1=(8, 8), w2=(8, 8), w2_a=(8, 2), w2_b=(2, 8)),
    "a difference and a norm": {"diff": torch.ones(64, 64), "w_norm": torch.ones(64)},
    "a difference of whole numbers": {"diff": torch.ones(8, 8, dtype=torch.int32)},
    "a difference that is a number": {"diff": torch.tensor(1.0)},
    "IA3 of many directions": {"weight": torch.ones(8), "on_input": torch.ones(8)},
    "a norm of nothing": {"w_norm": torch.ones(0)},
}
