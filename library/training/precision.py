"""Which dtypes weights and computation use, and which precisions a device does not support."""

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
    """Return the dtype of frozen weights: half precision is enough if the computation uses it."""
    return DTYPES[mixed_precision]


def trained_dtype(full_fp16: bool, full_bf16: bool) -> torch.dtype:
    """Return the dtype of the trained weights, and so of their gradients."""
    return torch.float16 if full_fp16 else torch.bfloat16 if full_bf16 else torch.float32


def settle_dtypes(model: StableDiffusion, method: Method, training: TrainingOptions) -> None:
    """Convert the trained weights, and with --fp8_base the frozen ones, to the dtypes of the options; needs the attached method."""
    dtype = trained_dtype(training.full_fp16, training.full_bf16)
    if dtype != torch.float32:
        for group in method.param_groups():
            for parameter in group["params"]:
                parameter.data = parameter.data.to(dtype)
    if training.fp8_base:
        saved = sum(map(store_in_float8, (model.unet, *model.text_encoders)))
        log.info(f"--fp8_base: frozen weights are stored in float8, which saves {saved / 2**20:,.0f} MiB")


def save_dtype(save_precision: str | None) -> torch.dtype | None:
    """Return `--save_precision` as a dtype; None keeps the dtype of the weights."""
    return None if save_precision is None else DTYPES[save_precision]


def check_device(mixed_precision: str, device: torch.device) -> None:
    """Raise UserError if the device does not support the precision (it would silently train in another one)."""
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
