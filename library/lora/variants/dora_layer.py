"""The layer of `networks.dora`: the sum of weight and LoRA, with direction and magnitude trained separately."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.file_names import DORA, DORA_SCALE
from library.lora.layers import PLAIN_TENSORS, Dropouts, LoRALayer, Patched
from library.lora.variants.dora import by_output, norms, shaped
from library.words import counted

DORA_TENSORS = PLAIN_TENSORS | DORA


class DoRALayer(LoRALayer):
    """W x + multiplier · (W′ − W) x with W′ = m·(W + s·BA)/‖W + s·BA‖ (Liu et al. 2024, eq. 5).

    `dora_scale` m starts at ‖W‖, the norm of each output's row [out, 1 …], so a new layer changes nothing. The backward pass treats the
    denominator as a constant (ibid., sec. 4.3, eq. 11). No W′ is formed: with g = m/‖…‖, W′x is g·(Wx + s·BAx), where Wx is the output of
    the patched module.
    """

    tensors = DORA_TENSORS
    shares_down = False  # in its other form each layer multiplies its input first
    on_output: ClassVar[bool] = True

    def __init__(self, module: Patched, rank: int, alpha: float, multiplier: float = 1.0, dropouts: Dropouts | None = None) -> None:
        super().__init__(module, rank, alpha, multiplier, dropouts)
        size = norms(_wide(module.weight.detach()), self.on_output)
        self.dora_scale = nn.Parameter(size.to(self.lora_down.weight))
        self._module = weakref.ref(module)

    def attach(self, module: Patched) -> None:
        """Patch `module`, after detaching from the module patched before."""
        super().attach(module)
        self._module = weakref.ref(module)

    def delta_weight(self) -> Tensor:
        """W′ − W in float32."""
        weight = self._weight()
        return ((self.gain(weight) * (weight + self._sum(weight))) - weight).float()

    def gain(self, weight: Tensor) -> Tensor:
        """g = m/‖W + s·BA‖ [out, 1 …] or [1, in, 1 …]; the gradient reaches only m."""
        with torch.no_grad():
            total = _wide(weight)
            size = norms(total + self._sum(total), by_output(self.dora_scale, weight.shape))
        return self.dora_scale / size.to(self.dora_scale.dtype)

    def take(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take a file's module; for a plain LoRA the magnitudes are set to those of its sum, so that it starts unchanged."""
        weight, stored = self._weight(), tensors.get(DORA_SCALE)
        size = None if stored is None else shaped(stored, weight.shape)
        if stored is not None and size is None:
            sizes = "×".join(map(str, weight.shape))
            raise UserError(
                coded(
                    "LORA-005",
                    f"{source}: {counted(stored.numel(), 'magnitude')} cannot match a weight of {sizes}; "
                    f"the file was made for another base model",
                )
            )
        self.load_state_dict({**tensors, DORA_SCALE: self.dora_scale})
        if size is None:
            size = norms(weight + self._sum(weight).detach(), self.on_output)
        self.dora_scale = nn.Parameter(size.to(self.dora_scale), self.dora_scale.requires_grad)  # along the axis of the file

    def _sum(self, weight: Tensor) -> Tensor:
        """s·BA in the shape and dtype of a weight."""
        up, down = (part.weight.to(weight.dtype).flatten(1) for part in (self.lora_up, self.lora_down))
        return (self.scale * (up @ down)).view(weight.shape)

    def _weight(self) -> Tensor:
        module = self._module()
        assert module is not None, "the patched model is gone"
        return _wide(module.weight.detach()).to(self.lora_down.weight.device)

    def _add_delta(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        assert isinstance(module, nn.Linear | nn.Conv2d)
        if self.training and self.dropouts.module and torch.rand(()) < self.dropouts.module:
            return None
        x, dtype = inputs[0].to(output.dtype), output.dtype
        gain = self.gain(module.weight)
        down, up, scale = self.down(dtype), self.casts.of(self.lora_up.weight, dtype), self.scale
        if by_output(self.dora_scale, module.weight.shape):
            gain = gain.view(-1) if self._convolution is None else gain.view(-1, 1, 1)
            change = self._base(module, x, output) * (gain - 1).to(dtype) + self._low_rank(x, down, up) * (gain * scale).to(dtype)
        else:
            gain = gain.view(-1) if self._convolution is None else gain.view(-1, 1, 1)
            base = self._hidden(x * (gain - 1).to(dtype), module.weight.to(dtype))
            change = base + self._low_rank(x * gain.to(dtype), down, up) * scale
        return output + change * self.multiplier

    def _low_rank(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """BAx [B, …, out] or [B, out, h, w], with the dropouts inside."""
        hidden = self._hidden(x, down)
        if self._drops_inside and self.training:
            hidden = self._drop(hidden)
        return F.linear(hidden, up) if up.dim() == 2 else F.conv2d(hidden, up)

    def _base(self, module: Patched, x: Tensor, output: Tensor) -> Tensor:
        """Return Wx of the base model: the module's output without its bias or, if other networks also patch it, computed again."""
        if len(module._forward_hooks) > 1:
            return self._hidden(x, module.weight.to(x.dtype))
        bias = module.bias
        return output if bias is None else output - (bias if self._convolution is None else bias.view(-1, 1, 1)).to(output.dtype)


class InputDoRALayer(DoRALayer):
    """As DoRALayer, with the norm of each input's column [1, in, 1 …], the paper's ‖·‖_c of a weight [out, in]; needs a second product with
    W per pass."""

    on_output = False


def _wide(weight: Tensor) -> Tensor:
    """Return a weight in float32, or in float64 if it is float64."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32) if weight.dtype.itemsize > 1 else torch.float32)
