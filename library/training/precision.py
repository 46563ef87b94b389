"""Which dtype what is kept and computed in, and the combinations that a device cannot do."""

from __future__ import annotations

import torch

from library.errors import UserError

DTYPES = {"no": torch.float32, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def frozen_dtype(mixed_precision: str) -> torch.dtype:
    """Dtype in which weights that are not trained are kept: half of it is enough where the computation is in half precision."""
    return DTYPES[mixed_precision]


def save_dtype(save_precision: str | None) -> torch.dtype | None:
    """`--save_precision` as a dtype; None keeps what the weights have."""
    return None if save_precision is None else DTYPES[save_precision]


def check_device(mixed_precision: str, device: torch.device) -> None:
    """Raise UserError where the device cannot do the asked precision (it would silently train in another one)."""
    if mixed_precision == "fp16" and device.type == "cpu":
        raise UserError(
            "--mixed_precision fp16: a CPU has no gradient scaler for fp16; use --mixed_precision bf16 or no, or run on a GPU"
        )
    if mixed_precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise UserError(f"--mixed_precision bf16: {name} has no bf16 (use an RTX 30xx); use --mixed_precision fp16")
