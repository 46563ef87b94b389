"""Small U-Nets and text encoders in Stable Diffusion's shape, and the full-size ones without memory, built by their own libraries."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

V1_UNET = {"cross_attention_dim": 768, "attention_head_dim": 8}
V2_UNET = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
V1_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
V2_TEXT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu"}


def tiny_unet(seed: int = 0) -> nn.Module:
    """Two levels, of which one attends; [B,4,8,8] and context [B,T,16] → [B,4,8,8]."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        norm_num_groups=4,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).requires_grad_(False)


def tiny_text_encoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = CLIPTextConfig(vocab_size=100, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return CLIPTextModel(config).requires_grad_(False).eval()


def full_size(version: str) -> tuple[nn.Module, nn.Module]:
    """(text encoder, U-Net) of SD v1.5 or v2.1 on the meta device: names and shapes only."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(V1_UNET if version == "v1" else V2_UNET))
        text_encoder = CLIPTextModel(CLIPTextConfig(**(V1_TEXT if version == "v1" else V2_TEXT)))
    return text_encoder, unet


def run_unet(unet: nn.Module, seed: int = 1) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    latents, context = torch.randn(2, 4, 8, 8, generator=noise), torch.randn(2, 5, 16, generator=noise)
    return unet(latents, torch.tensor([3, 700]), context).sample


def run_text_encoder(text_encoder: nn.Module) -> torch.Tensor:
    return text_encoder(torch.arange(20).view(2, 10)).last_hidden_state


def randomize(network: nn.Module, seed: int = 2, deviation: float = 0.3) -> None:
    """Give every weight of the network a random value, so that it acts."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=noise))
