"""LoRA layers that start from the weight they patch (`--network_args init=…`), and the plain LoRA in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from library.errors import UserError, coded
from library.lora.files import ModuleWeights
from library.lora.layers import Dropouts, LoRALayer, Patched, delta_weight
from library.lora.low_rank import relative_error
from library.lora.variants.starts import Factors, olora, orthogonal, pissa

SAME_START = 0.25  # allowed distance of a file's start from this model's: fp8 rounds by less, another model is more than 1 away


class StartedLayer(LoRALayer):
    """W x + multiplier · s·(BA − B₀A₀) x, where A and B start at A₀ and B₀.

    This trains A and B on the residual W − s·B₀A₀ (Meng et al. 2024, eq. 4) without a second copy of the model: multiplier 0 is the base
    model, and an 8-bit weight is not rounded again. The difference is computed as (B − B₀)·A + B₀·(A − A₀), which is exactly zero at the
    start and loses nothing to cancellation in 16 bits. The file contains these two products as one LoRA of twice the rank and twice the
    alpha, which every program can apply to the unchanged model (ibid., app. C).
    """

    start_down: Tensor
    start_up: Tensor
    ranks_in_file = 2
    shares_down = False  # its down matrix consists of two
    start: ClassVar[Callable[[Tensor, int, float], Factors]]

    def __init__(self, module: Patched, rank: int, alpha: float, multiplier: float = 1.0, dropouts: Dropouts | None = None) -> None:
        super().__init__(module, rank, alpha, multiplier, dropouts)
        begin(self, module, type(self).start)
        self.register_buffer("start_down", self.lora_down.weight.detach().clone())
        self.register_buffer("start_up", self.lora_up.weight.detach().clone())

    def delta_weight(self) -> Tensor:
        """s·(BA − B₀A₀), float32."""
        return delta_weight(*self._pair(), self.scale)

    def file_tensors(self) -> dict[str, Tensor]:
        """Return the plain LoRA for the file."""
        down, up = self._pair()
        return {"alpha": self.alpha * self.ranks_in_file, "lora_down.weight": down, "lora_up.weight": up}

    def take(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Continue from a file with this start; raises UserError if its start is not that of this model."""
        rank, scale = self.rank, float(tensors["alpha"]) / (self.rank * self.ranks_in_file)
        down, up = tensors["lora_down.weight"].to(self.start_down), tensors["lora_up.weight"].to(self.start_up)
        start_down, start_up = down[:rank] - down[rank:], up[:, rank:]
        actual, wanted = (
            ModuleWeights(a, b, 1.0) for a, b in ((start_down, start_up * scale), (self.start_down, self.start_up * self.scale))
        )
        if relative_error(actual, wanted) > SAME_START:
            raise UserError(
                coded(
                    "LORA-004",
                    f"{source}: was not made from this start of this model; remove --network_args init and add --dim_from_weights to "
                    "continue it as a plain LoRA",
                )
            )
        weights = {"lora_down.weight": down[:rank], "lora_up.weight": up[:, :rank] + start_up, "alpha": torch.tensor(scale * rank)}
        self.load_state_dict({**weights, "start_down": start_down, "start_up": start_up})

    def _pair(self) -> tuple[Tensor, Tensor]:
        """Return down [2·rank, in(, kh, kw)] and up [out, 2·rank(, 1, 1)], whose product is BA − B₀A₀."""
        down, up = self.lora_down.weight, self.lora_up.weight
        return torch.cat([down, down - self.start_down]), torch.cat([up - self.start_up, self.start_up], dim=1)

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        down, up = self._pair()
        return down.to(dtype), up.to(dtype), self.multiplier * self.scale

    def _drop(self, hidden: Tensor) -> Tensor:
        """Drop the same components in both products."""
        axis = 1 if self._convolution is not None else -1
        mask = super()._drop(torch.ones_like(hidden.narrow(axis, 0, self.rank)))
        return hidden * torch.cat([mask, mask], dim=axis)


class PiSSALayer(StartedLayer):
    """Starts from the largest singular values of its weight."""

    start = pissa


class OLoRALayer(StartedLayer):
    """Starts from the QR decomposition of its weight."""

    start = olora


class OrthogonalLayer(LoRALayer):
    """Starts from factors that are orthogonal to each other: their product is zero, so nothing has to be subtracted."""

    def __init__(self, module: Patched, rank: int, alpha: float, multiplier: float = 1.0, dropouts: Dropouts | None = None) -> None:
        super().__init__(module, rank, alpha, multiplier, dropouts)
        if rank % 2:
            raise UserError(
                coded("LORA-008", f"--network_args init=orthogonal: rank {rank} is odd; choose even ranks (--network_dim, conv_dim, …)")
            )
        begin(self, module, orthogonal)


STARTS: dict[str, type[LoRALayer]] = {"pissa": PiSSALayer, "olora": OLoRALayer, "orthogonal": OrthogonalLayer}


@torch.no_grad()
def begin(layer: LoRALayer, module: Patched, start: Callable[[Tensor, int, float], Factors]) -> None:
    """Initialize a layer from the weight of `module`; raises UserError if the weight has a lower rank than the layer."""
    weight = module.weight.detach().flatten(1)
    if layer.rank > min(weight.shape):
        raise UserError(
            coded(
                "LORA-008",
                f"--network_args init: rank {layer.rank} is more than a weight of {weight.shape[0]}×{weight.shape[1]} has; "
                f"choose at most {min(weight.shape)} for it (--network_dim, conv_dim, network_reg_dims)",
            )
        )
    down, up = start(weight if weight.dtype.itemsize > 1 else weight.float(), layer.rank, layer.scale)
    layer.lora_down.weight.copy_(down.view(layer.lora_down.weight.shape))
    layer.lora_up.weight.copy_(up.reshape(layer.lora_up.weight.shape))
