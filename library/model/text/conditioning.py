"""The U-Net's inputs besides noisy latents and a timestep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

TextEncoders = Sequence[nn.Module]


@dataclass(frozen=True)
class Conditioning:
    """B captions as input of the U-Net; pooled embedding and sizes are None for families whose U-Net does not take them."""

    context: Tensor  # [B,T,D], for the cross-attentions
    pooled: Tensor | None = None  # [B,P], one vector per caption
    size_ids: Tensor | None = None  # [B,K], of the image: original size, crop, shown size
    known: Tensor | None = None  # [B,5,h,w], of inpainting models: the mask, and the latents of the masked image

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, rows: slice) -> Conditioning:
        """The conditionings of some of the captions."""
        return self.map(lambda tensor: tensor[rows])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in (self.context, self.pooled, self.size_ids, self.known) if tensor is not None)

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """Apply `change` to each tensor."""
        further = (None if tensor is None else change(tensor) for tensor in (self.pooled, self.size_ids, self.known))
        return Conditioning(change(self.context), *further)

    @staticmethod
    def joined(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate the captions of all parts, which must have the same tensors."""
        return Conditioning(
            torch.cat([part.context for part in parts]),
            _joined([part.pooled for part in parts]),
            _joined([part.size_ids for part in parts]),
            _joined([part.known for part in parts]),
        )


class CaptionReader(Protocol):
    """How captions become a conditioning; each model family has a reader."""

    def __call__(self, text_encoders: TextEncoders, input_ids: Tensor, token_weights: Tensor | None, clip_skip: int | None) -> Conditioning:
        """Read token ids [B,N,77] and weights [B,N,77] (None: unweighted) -> the conditioning of B captions, without sizes."""


def whole_picture(width: int, height: int, count: int, device: torch.device) -> Tensor:
    """Sizes [count,6] of uncropped images: width, height, left and top of the crop, width and height shown; pixels."""
    return torch.tensor([width, height, 0, 0, width, height], device=device).expand(count, -1)


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None
