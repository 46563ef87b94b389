"""Where LoRA patches a U-Net and a CLIP text encoder, and the layer it adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from library.lora.compute.add_up import add_up
from library.lora.compute.casts import Casts
from library.lora.compute.shared_down import SharedDown, siblings

TextEncoders = nn.Module | Sequence[nn.Module] | None  # a sequence for models with several


@dataclass(frozen=True)
class Prefixes:
    """The prefixes of keys in LoRA files: of the U-Net's modules, and of each text encoder's."""

    unet: str
    text_encoders: tuple[str, ...]

    def text_labels(self) -> list[tuple[str, str]]:
        """The names of the text encoders in logs, with their prefixes: "textencoder", or "textencoder1", "textencoder2" if there are
        several."""
        several = len(self.text_encoders) > 1
        return [(f"textencoder{place if several else ''}", prefix) for place, prefix in enumerate(self.text_encoders, start=1)]


TEXT_ENCODER = "lora_te_text_model_"
STABLE_DIFFUSION = Prefixes("lora_unet_", (TEXT_ENCODER,))  # v1 and v2

Patched = nn.Linear | nn.Conv2d  # the modules that LoRA can patch
PLAIN_TENSORS = frozenset({"lora_down.weight", "lora_up.weight", "alpha"})  # of a module in a file

_Pair = tuple[int, int]  # (down, across)

# Class names that decide which modules LoRA files contain; frozen, since one network must not change the next one's.
_TRANSFORMERS = frozenset({"Transformer2DModel"})
_CONVOLUTIONS = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
_TEXT_ENCODER = frozenset({"CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"})


@dataclass(frozen=True)
class Target:
    """A module of the base model that LoRA can patch: its key in LoRA files, its dotted path in the model, and the module.

    `extended`: patched only if the user asks for convolutions (`conv_dim`). `outside` all blocks (`conv_in`, `conv_out`, `time_embedding`):
    never patched by a new network, but LyCORIS files have such modules.
    """

    key: str
    path: str
    module: Patched
    extended: bool = False
    outside: bool = False

    @property
    def is_wide_convolution(self) -> bool:
        """Whether it is a convolution over more than one pixel (3×3), with the rank of `conv_dim`."""
        return isinstance(self.module, nn.Conv2d) and self.module.kernel_size != (1, 1)


def unet_targets(unet: nn.Module, prefix: str = STABLE_DIFFUSION.unet) -> dict[str, Target]:
    """Return every Linear and convolution inside `Transformer2DModel` and, marked as extended, inside `ResnetBlock2D`, `Downsample2D` and
    `Upsample2D`, by LoRA key in the model's order; then, marked as outside, those outside all of these."""
    plain = {target.key: target for target in _inside(unet, _TRANSFORMERS, prefix)}
    both = _inside(unet, _TRANSFORMERS | _CONVOLUTIONS, prefix)
    targets = {target.key: plain.get(target.key, replace(target, extended=True)) for target in both}
    for path, module in unet.named_modules():
        key = prefix + path.replace(".", "_")
        if isinstance(module, nn.Linear | nn.Conv2d) and key not in targets:
            targets[key] = Target(key, path, module, outside=True)
    return targets


def text_encoder_targets(text_encoder: nn.Module, prefix: str = TEXT_ENCODER) -> dict[str, Target]:
    """Return the Linears of CLIP's attention and MLP, by LoRA key. The keys contain `text_model_` with any version of transformers."""
    targets = _inside(getattr(text_encoder, "text_model", text_encoder), _TEXT_ENCODER, prefix)
    return {target.key: target for target in targets}


def model_targets(text_encoder: TextEncoders, unet: nn.Module | None, prefixes: Prefixes = STABLE_DIFFUSION) -> dict[str, Target]:
    """Return the targets of the given parts, the text encoders' first."""
    text_encoders = listed(text_encoder)
    targets: dict[str, Target] = {}
    for encoder, prefix in zip(text_encoders, prefixes.text_encoders, strict=bool(text_encoders)):
        targets |= text_encoder_targets(encoder, prefix)
    return targets if unet is None else targets | unet_targets(unet, prefixes.unet)


def listed(text_encoder: TextEncoders) -> Sequence[nn.Module]:
    """Return the text encoders as a sequence."""
    return [] if text_encoder is None else [text_encoder] if isinstance(text_encoder, nn.Module) else text_encoder


def _inside(model: nn.Module, classes: frozenset[str], prefix: str) -> Iterator[Target]:
    for outer_path, outer in model.named_modules():
        if type(outer).__name__ not in classes:
            continue
        for inner_path, inner in outer.named_modules():
            if isinstance(inner, nn.Linear | nn.Conv2d):
                path = f"{outer_path}.{inner_path}"
                yield Target(prefix + path.replace(".", "_"), path, inner)


@dataclass(frozen=True)
class Dropouts:
    """Probabilities in 0 … 1 (exclusive), drawn from torch's global random state during training.

    `neuron`: of each value between down and up; `rank`: of each component of the rank, per image. What remains is scaled up by 1/(1−p).
    `module`: of skipping the whole layer for a step; nothing is scaled for it, as in other LoRA implementations.
    """

    neuron: float = 0.0
    rank: float = 0.0
    module: float = 0.0


class LoRALayer(nn.Module):
    """W x + multiplier · alpha/rank · up(down(x)) around one Linear or convolution W (Hu et al. 2021, eq. 3).

    It contains only what is trained: `lora_down.weight` [rank, in(, kh, kw)], `lora_up.weight` [out, rank(, 1, 1)], `alpha` []. Attached as
    a forward hook, so that networks can be stacked and removed in any order. down starts uniform (Kaiming, a = √5, torch's default for
    these modules), up at zero: a new layer changes nothing. It computes in the dtype of the patched module's output, independent of the
    dtype of its weights.
    """

    alpha: Tensor
    shares_down = True  # whether its down matrix may be multiplied together with those of its neighbours
    ranks_in_file = 1  # rank of its module in a file / its own rank
    tensors = PLAIN_TENSORS  # the tensors of modules in files that it can take

    def __init__(self, module: Patched, rank: int, alpha: float, multiplier: float = 1.0, dropouts: Dropouts | None = None) -> None:
        super().__init__()
        if isinstance(module, nn.Conv2d):
            assert module.groups == 1 and module.padding_mode == "zeros", "not a convolution of Stable Diffusion"
            stride, dilation = _pair(module.stride), _pair(module.dilation)
            padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
            self.lora_down: Patched = nn.Conv2d(module.in_channels, rank, _pair(module.kernel_size), stride, padding, dilation, bias=False)
            self.lora_up: Patched = nn.Conv2d(rank, module.out_channels, 1, bias=False)
            self._convolution: tuple[_Pair, str | _Pair, _Pair] | None = (stride, padding, dilation)
        else:
            self.lora_down = nn.Linear(module.in_features, rank, bias=False)
            self.lora_up = nn.Linear(rank, module.out_features, bias=False)
            self._convolution = None
        nn.init.zeros_(self.lora_up.weight)
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.rank = rank
        self.scale = float(alpha) / rank
        self.multiplier = multiplier
        self.dropouts = dropouts or Dropouts()
        self._drops_inside = bool(self.dropouts.neuron or self.dropouts.rank)
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self.casts = Casts()
        self.shared: tuple[SharedDown, int] | None = None  # with its index there

    def trained(self) -> list[nn.Parameter]:
        """The modules that the optimizer trains: here all."""
        return list(self.parameters())

    def attach(self, module: Patched) -> None:
        """Patch `module`, after detaching from the module patched before."""
        self.detach()
        self._hook = module.register_forward_hook(self._act)

    def detach(self) -> None:
        """Restore the patched module."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def delta_weight(self) -> Tensor:
        """Return alpha/rank · up·down in the shape of the patched weight, float32: the change of W at multiplier 1."""
        return delta_weight(self.lora_down.weight, self.lora_up.weight, self.scale)

    def file_tensors(self) -> Mapping[str, Tensor]:
        """Return its module in a file, by the ends of the tensor names."""
        tensors: dict[str, Tensor] = self.state_dict()
        return tensors

    def file_shapes(self) -> tuple[torch.Size, torch.Size]:
        """Return the shapes of down and up in a file."""
        (rank, *inside), (out, _, *ones) = self.lora_down.weight.shape, self.lora_up.weight.shape
        in_file = rank * self.ranks_in_file
        return torch.Size((in_file, *inside)), torch.Size((out, in_file, *ones))

    def take(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take over a file's module of these shapes, by the ends of its tensor names; `source` names the file in messages."""
        self.load_state_dict(tensors)

    def _act(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.multiplier == 0 and not torch.is_grad_enabled():  # adds nothing, and no gradient is needed
            return None
        return self._add_delta(module, inputs, output)

    def _add_delta(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.training and self.dropouts.module and torch.rand(()) < self.dropouts.module:
            return None
        x, dtype = inputs[0], output.dtype
        if self.shared is not None and dtype.itemsize == 2 and self.casts.together:
            shared, place = self.shared
            hidden, (up, factor) = shared.hidden(place, x, dtype), (self.casts.of(self.lora_up.weight, dtype), self.multiplier * self.scale)
        else:
            down, up, factor = self._factors(dtype)
            hidden = self._hidden(x.to(dtype), down)
        if self._drops_inside and self.training:
            hidden = self._drop(hidden)
        return add_up(output, hidden, up, factor)

    def _hidden(self, x: Tensor, down: Tensor) -> Tensor:
        if self._convolution is None:
            return F.linear(x, down)
        stride, padding, dilation = self._convolution
        return F.conv2d(x, down, None, stride, padding, dilation)

    def down(self, dtype: torch.dtype) -> Tensor:
        """`lora_down.weight` in `dtype`."""
        return self.casts.of(self.lora_down.weight, dtype)

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """Return down, up and the factor of their product in this pass."""
        return self.down(dtype), self.casts.of(self.lora_up.weight, dtype), self.multiplier * self.scale

    def _drop(self, hidden: Tensor) -> Tensor:
        """Apply the neuron and rank dropouts to `hidden` [B, …, rank] or [B, rank, h, w]."""
        if self.dropouts.neuron:
            hidden = F.dropout(hidden, self.dropouts.neuron)
        if self.dropouts.rank:
            rank = hidden.shape[1 if self._convolution is not None else -1]
            mask = torch.full((hidden.shape[0], rank), 1 - self.dropouts.rank, device=hidden.device).bernoulli()
            ones = (1,) * (hidden.dim() - 2)
            shape = (*mask.shape, *ones) if self._convolution is not None else (mask.shape[0], *ones, rank)
            hidden = hidden * (mask / (1 - self.dropouts.rank)).to(hidden.dtype).view(shape)
        return hidden

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.scale = float(self.alpha) / self.rank  # use the loaded alpha


def compute_together(part: nn.Module, layers: Mapping[str, LoRALayer], paths: Mapping[str, str]) -> list[RemovableHandle]:
    """Let the layers on `part` (a U-Net or text encoder) cast their weights at once in each pass, and share products between neighbours;
    `paths` are the paths of their keys in `part`. Returns the hooks."""
    if not layers:  # `part` is unpatched and must not show hooks to code that checks for changes
        return []
    casts = Casts(tuple(layers.values()))
    for layer in layers.values():
        layer.casts, layer.shared = casts, None
    for group in siblings({key: paths[key] for key, layer in layers.items() if layer.shares_down and not layer.dropouts.module}):
        shared = SharedDown([layers[key].down for key in group])
        for place, key in enumerate(group):
            layers[key].shared = (shared, place)
    return casts.around(getattr(part, "text_model", part))  # that level may be a placeholder that is never called


class _Named(TypedDict):
    params: list[nn.Parameter]
    name: str  # for logs


class Group(_Named, total=False):
    """A group of parameters for the optimizer; `lr` is absent if the rate is unknown."""

    lr: float


def _pair(sizes: tuple[int, ...]) -> _Pair:
    height, width = sizes
    return height, width


def delta_weight(down: Tensor, up: Tensor, scale: float) -> Tensor:
    """scale · up·down [out, in(, kh, kw)] in float32; `down` [rank, in(, kh, kw)], `up` [out, rank(, 1, 1)]."""
    product = up.float().flatten(1) @ down.float().flatten(1)
    return scale * product.view(up.shape[0], *down.shape[1:])


def delta_norm(down: Tensor, up: Tensor) -> Tensor:
    """‖up·down‖ (Frobenius) [] from two rank×rank products: ‖BA‖² = tr(BᵀB·AAᵀ), without forming the full matrix."""
    down, up = down.float().flatten(1), up.float().flatten(1)
    return ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()
