"""Frozen weights in 8 bits (--fp8_base): stored as float8_e4m3fn with a scale per output, widened layer by layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMAT = torch.float8_e4m3fn  # 3 bits after the leading one: numbers are kept to 1 part in 16
LARGEST = torch.finfo(FORMAT).max  # 448
SMALLEST_LAYER = 4096  # weights; smaller layers save nothing
View = tuple[torch.Size, tuple[int, ...], int | torch.SymInt]  # size, stride and offset in a storage


def store_in_float8(network: nn.Module) -> int:
    """Turn the weights of frozen Linears and convolutions in `network` into float8; returns how many bytes that saves.

    Norms, embeddings, biases and small layers stay as they are, and so do the first and last convolution, which determine a U-Net's
    dtype and where errors are most visible. A layer computes in the dtype of autocast or of its input, and keeps no widened weight for
    the backward pass. The largest weight of each output is scaled to 448, so that small weights do not fall below the format's smallest
    number.
    """
    saved = 0
    for name, module in network.named_modules():
        stored = _STORED.get(type(module))
        if stored is None or module.weight.requires_grad or module.weight.numel() < SMALLEST_LAYER:
            continue
        if name in ("conv_in", "conv_out"):
            continue
        before = module.weight
        scale = before.detach().float().abs().amax(dim=tuple(range(1, before.ndim)), keepdim=True) / LARGEST
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        weight = (before.detach().float() / scale).to(FORMAT)
        module.weight = nn.Parameter(weight, requires_grad=False)
        module.register_buffer("weight_scale", scale.to(torch.float32), persistent=False)
        module.__class__ = stored
        saved += before.numel() * (before.element_size() - weight.element_size()) - scale.numel() * 4
    return saved


def _stored(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the layer class `kind` with a float8 weight; it has the same name, by which networks find the layers that they adapt."""

    class Float8Layer(kind):  # type: ignore[valid-type,misc]  # a base class that is known when it runs only
        def forward(self, inputs: Tensor) -> Tensor:
            device = inputs.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
            weight = self._widened(dtype)
            place = weight.untyped_storage().data_ptr()

            def pack(tensor: Tensor) -> Tensor | View:
                same = tensor.untyped_storage().data_ptr() == place
                return (tensor.size(), tensor.stride(), tensor.storage_offset()) if same else tensor

            def unpack(packed: Tensor | View) -> Tensor:
                return packed if isinstance(packed, Tensor) else self._widened(dtype).as_strided(*packed)

            bias = None if self.bias is None else self.bias.to(dtype)
            with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
                if isinstance(self, nn.Linear):
                    return F.linear(inputs.to(dtype), weight, bias)
                return F.conv2d(inputs.to(dtype), weight, bias, self.stride, self.padding, self.dilation, self.groups)

        def _widened(self, dtype: torch.dtype) -> Tensor:
            wide = torch.float32 if dtype == torch.float16 else dtype  # a scale may be too small for fp16
            weight: Tensor = (self.weight.to(wide) * self.weight_scale.to(wide)).to(dtype)
            return weight

    Float8Layer.__name__ = Float8Layer.__qualname__ = kind.__name__
    return Float8Layer


_STORED: dict[type[nn.Module], type[nn.Module]] = {kind: _stored(kind) for kind in (nn.Linear, nn.Conv2d)}
