"""Selects kernels: TF32 for float32 matrix products, PyTorch's attention backend, the channels_last memory format."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from library.console import log
from library.errors import UserError, coded, first_line
from library.model.attention import attend_by
from library.model.bundle import StableDiffusion
from library.options.groups.training import TrainingOptions

SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def choose_precision(training: TrainingOptions, device: torch.device) -> None:
    """Apply --allow_tf32 to the whole process. PyTorch's defaults are TF32 for convolutions and full precision for other products."""
    if not training.allow_tf32:
        return
    if device.type != "cuda":
        log.warning(f"--allow_tf32: has no effect on {device.type}, only on NVIDIA GPUs; remove it")
        return
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]  # torch gives it no type


def choose_kernels(model: StableDiffusion, training: TrainingOptions, device: torch.device) -> None:
    """Apply --sdpa_backend and --channels_last; call it once the model has its initial weights.

    Raises UserError if the device does not support the backend for the U-Net's heads.
    """
    if training.sdpa_backend != "auto":
        backend = SDPA[training.sdpa_backend]
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(training.mixed_precision, torch.float32)
        if reason := _cannot_attend(backend, _head_widths(model.unet), dtype, device):
            raise UserError(
                coded(
                    "OPT-018",
                    f"--sdpa_backend {training.sdpa_backend}: does not work on this device in {str(dtype).removeprefix('torch.')} "
                    f"({reason}); use --sdpa_backend auto",
                )
            )
        attend_by(model.unet, backend)
    if training.channels_last:
        model.unet.to(memory_format=torch.channels_last)
        model.unet_layout = torch.channels_last


def match_layouts(optimizer: Optimizer) -> None:
    """Give the optimizer's state the memory layout of the weights, which a restored state lacks: kernels read both together."""
    for parameter, memory in optimizer.state.items():
        for name, value in memory.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                memory[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _head_widths(unet: nn.Module) -> set[int]:
    from diffusers.models.attention_processor import Attention

    return {int(module.inner_dim) // int(module.heads) for module in unet.modules() if isinstance(module, Attention)}


def _cannot_attend(backend: SDPBackend, widths: set[int], dtype: torch.dtype, device: torch.device) -> str | None:
    """Try forward and backward; returns the reason for a failure, None if both work."""
    try:
        for width in sorted(widths):
            tried = torch.zeros(1, 1, 8, width, device=device, dtype=dtype, requires_grad=True)
            with sdpa_kernel(backend):
                torch.autograd.grad(F.scaled_dot_product_attention(tried, tried, tried).sum(), tried)
    except RuntimeError as fault:
        return f"heads of {width}: {first_line(fault)}"
    return None
