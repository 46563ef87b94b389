"""What distinguishes VAEs with different latents: the weights of the encoder."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_ENCODER = ("encoder.", "quant_conv.")
_SHAPING = ("act_fn", "block_out_channels", "down_block_types", "layers_per_block", "norm_num_groups")  # not shown by the weights


def encoder_fingerprint(vae: AutoencoderKL) -> str:
    """Return a hash of the encoder's weights, which must be in float32, the widest dtype of a file.

    The decoder is not included: VAEs that differ only in the decoder, as most VAEs for Stable Diffusion do, give the same latents.
    """
    digest = hashlib.sha256(json.dumps([vae.config[name] for name in _SHAPING]).encode("ascii"))
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(_ENCODER):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode("ascii"))
            digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
