"""Encode captions, as token ids, to the context for the U-Net: windows of 75 tokens, clip skip, weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def encode_text(text_encoder: nn.Module, input_ids: Tensor, clip_skip: int | None = None, token_weights: Tensor | None = None) -> Tensor:
    """Encode ids [B,N,77] (N windows, each with a begin and an end) to a context [B, N·75+2, D].

    Each window is encoded separately; the joined context keeps only the first begin and the last end. `clip_skip` n takes the output of the
    n-th layer from the end through the final layer norm; None and 1 are the last layer. `token_weights` [B,N,77] multiply the joined
    context, which is then rescaled so that each caption keeps its mean.
    """
    batch, windows, length = input_ids.shape
    ids = input_ids.reshape(batch * windows, length)
    if clip_skip is None or clip_skip == 1:
        hidden = text_encoder(ids).last_hidden_state
    else:
        encoder = getattr(text_encoder, "text_model", text_encoder)
        norm = encoder.get_submodule("final_layer_norm")
        hidden = norm(text_encoder(ids, output_hidden_states=True).hidden_states[-clip_skip])
    context = join_windows(hidden.reshape(batch, windows, length, -1))
    if token_weights is None:
        return context
    return _weighted(context, join_windows(token_weights.unsqueeze(-1)).to(context.dtype))


def join_windows(windows: Tensor) -> Tensor:
    """[B,N,77,D] -> [B, N·75+2, D]: the first begin, all inner places in order, the last end."""
    inner = windows[:, :, 1:-1].flatten(1, 2)
    return torch.cat([windows[:, 0, :1], inner, windows[:, -1, -1:]], dim=1)


def _weighted(context: Tensor, weights: Tensor) -> Tensor:
    """Weight a context [B,T,D] by [B,T,1] and keep each caption's mean over T and D.

    A caption is not rescaled if its mean is close to 0 compared with its values (an untrained encoder's norm gives exactly 0).
    """
    before = context.float().mean(dim=(1, 2), keepdim=True)
    weighted = context * weights
    after = weighted.float().mean(dim=(1, 2), keepdim=True)
    least = 1e-3 * context.float().square().mean(dim=(1, 2), keepdim=True).sqrt()
    measures = (before.abs() > least) & (after.abs() > least)
    divisor = torch.where(measures, after, torch.ones_like(after))  # 0/0 would make the gradient NaN even where it is not selected
    rescale = torch.where(measures, before / divisor, torch.ones_like(before))
    return weighted * rescale.to(context.dtype)
