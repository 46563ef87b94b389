"""Which kernels compute: TF32 for matrices in 32 bits, one of PyTorch's ways to attend, channels side by side in memory."""

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
    """--allow_tf32, for the process. Without it PyTorch's own ways stay: convolutions in TF32, other matrix products exact."""
    if not training.allow_tf32:
        return
    if device.type != "cuda":
        log.warning(f"--allow_tf32: has no effect on {device.type}, only on NVIDIA GPUs; remove it")
        return
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]  # torch gives it no type


def choose_kernels(model: StableDiffusion, training: TrainingOptions, device: torch.device) -> None:
    """--sdpa_backend and --channels_last, once the model's weights are as the run begins with them.

    Raises UserError where the device cannot attend so with the U-Net's heads.
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
    """Lay out in memory what the optimizer remembers as the weights are, which a restored state is not: kernels go through both at once."""
    for parameter, memory in optimizer.state.items():
        for name, value in memory.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                memory[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _head_widths(unet: nn.Module) -> set[int]:
    from diffusers.models.attention_processor import Attention

    return {int(module.inner_dim) // int(module.heads) for module in unet.modules() if isinstance(module, Attention)}


def _cannot_attend(backend: SDPBackend, widths: set[int], dtype: torch.dtype, device: torch.device) -> str | None:
    """Why not, None where it can, both directions."""
    try:
        for width in sorted(widths):
            tried = torch.zeros(1, 1, 8, width, device=device, dtype=dtype, requires_grad=True)
            with sdpa_kernel(backend):
                torch.autograd.grad(F.scaled_dot_product_attention(tried, tried, tried).sum(), tried)
    except RuntimeError as fault:
        return f"heads of {width}: {first_line(fault)}"
    return None
