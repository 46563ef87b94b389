"""Which dtype what is kept and computed in, and the combinations that a device cannot do."""

from __future__ import annotations

import torch

from library.console import log
from library.errors import UserError, coded
from library.method import Method
from library.model.bundle import StableDiffusion
from library.model.float8 import store_in_float8
from library.options.groups.training import TrainingOptions

DTYPES = {"no": torch.float32, "float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def frozen_dtype(mixed_precision: str) -> torch.dtype:
    """Dtype in which weights that are not trained are kept: half of it is enough where the computation is in half precision."""
    return DTYPES[mixed_precision]


def trained_dtype(full_fp16: bool, full_bf16: bool) -> torch.dtype:
    """Dtype of the weights that are trained, and so of their gradients."""
    return torch.float16 if full_fp16 else torch.bfloat16 if full_bf16 else torch.float32


def settle_dtypes(model: StableDiffusion, method: Method, training: TrainingOptions) -> None:
    """Give what is trained, and with --fp8_base what is frozen, the dtype that the options ask for; after the method is attached."""
    dtype = trained_dtype(training.full_fp16, training.full_bf16)
    if dtype != torch.float32:
        for group in method.param_groups():
            for parameter in group["params"]:
                parameter.data = parameter.data.to(dtype)
    if training.fp8_base:
        saved = sum(map(store_in_float8, (model.unet, *model.text_encoders)))
        log.info(f"--fp8_base: frozen weights are stored in float8, which saves {saved / 2**20:,.0f} MiB")


def save_dtype(save_precision: str | None) -> torch.dtype | None:
    """`--save_precision` as a dtype; None keeps what the weights have."""
    return None if save_precision is None else DTYPES[save_precision]


def check_device(mixed_precision: str, device: torch.device) -> None:
    """Raise UserError where the device cannot do the asked precision (it would silently train in another one)."""
    if mixed_precision == "fp16" and device.type == "cpu":
        raise UserError(
            coded(
                "OPT-018",
                "--mixed_precision fp16: a CPU computes fp16 many times slower than fp32; "
                "use --mixed_precision bf16 or no, or run on a GPU",
            )
        )
    if mixed_precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise UserError(coded("OPT-018", f"--mixed_precision bf16: {name} has no bf16 (use an RTX 30xx); use --mixed_precision fp16"))
