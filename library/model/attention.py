"""How the U-Net and the VAE compute attention: PyTorch's own kernels, xformers, or chunks that need little memory."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from library.console import log
from library.errors import first_line

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

CHUNK = 1024  # queries per chunk
KINDS = ("sdpa", "xformers", "mem_eff")


def set_attention(unet: UNet2DConditionModel, vae: AutoencoderKL | None, kind: str = "sdpa") -> str:
    """Set the attention of both networks to `kind`; returns the kind in use, which is "sdpa" (with a warning) if xformers cannot run."""
    from diffusers.models.attention_processor import AttnProcessor2_0, XFormersAttnProcessor

    assert kind in KINDS, kind
    if kind == "xformers" and (reason := _xformers_lacks()):
        log.warning("--xformers: %s; PyTorch's own attention (--sdpa) is used instead", reason)
        kind = "sdpa"
    processors = {"sdpa": AttnProcessor2_0, "xformers": XFormersAttnProcessor, "mem_eff": ChunkedAttention}
    for network in (unet, vae):
        if network is not None:
            network.set_attn_processor(processors[kind]())
    return kind


def attend_by(unet: UNet2DConditionModel, backend: SDPBackend) -> None:
    """Set the U-Net's attention to one PyTorch kernel, with no fallback."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    whole = AttnProcessor2_0()

    class OneKernel:
        """PyTorch's attention with one of its kernels."""

        def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor:
            with sdpa_kernel(backend):
                attended: Tensor = whole(attn, hidden_states, *args, **kwargs)
            return attended

    unet.set_attn_processor(OneKernel())


def _xformers_lacks() -> str | None:
    """Why xformers cannot be used here; None if it can."""
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    if not torch.cuda.is_available():
        return "xformers needs a CUDA device and there is none"
    try:
        import xformers.ops
    except (ImportError, OSError, RuntimeError) as fault:
        return f"xformers cannot be loaded ({fault})"
    try:  # built for another torch or GPU, it imports and fails at the first step
        tried = torch.zeros(1, 8, 1, 40, device="cuda", dtype=torch.float16, requires_grad=True)
        xformers.ops.memory_efficient_attention(tried, tried, tried).sum().backward()
    except (NotImplementedError, RuntimeError, ValueError) as fault:
        return f"xformers cannot attend on this device ({first_line(fault)})"
    return None


class ChunkedAttention:
    """A diffusers attention processor that computes `CHUNK` queries at a time and recomputes each chunk for its gradient.

    The attention map needs memory for [B, heads, CHUNK, keys] instead of [B, heads, queries, keys], in both directions. The result differs
    from that of the whole map only by rounding, since the softmax of each query covers all its keys.
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend from hidden states [B,T,C] (or [B,C,H,W]) to themselves or to `encoder_hidden_states` [B,S,D]."""
        assert attention_mask is None and attn.spatial_norm is None, "Stable Diffusion has neither"
        residual, shape = hidden_states, hidden_states.shape
        if hidden_states.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [B, heads, T, width]
            for projected in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        attended = self._attend(query, key, value).transpose(1, 2).flatten(2)
        result = attn.to_out[1](attn.to_out[0](attended))
        if len(shape) == 4:
            result = result.transpose(-1, -2).reshape(shape)
        if attn.residual_connection:
            result = result + residual
        return result / attn.rescale_output_factor

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        recompute = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        pieces = []
        for part in torch.split(query, self.chunk, dim=2):
            if recompute:
                pieces.append(checkpoint(_attend_all, part, key, value, use_reentrant=False, preserve_rng_state=False))
            else:
                pieces.append(_attend_all(part, key, value))
        return torch.cat(pieces, dim=2)


def _attend_all(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q·kᵀ / √width)·v (Vaswani et al. 2017, eq. 1), the softmax in float32 at least."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = F.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return weights.to(value.dtype) @ value
