"""The network of low-rank layers: created or read from a file, applied to a model, trained, saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from library.console import log
from library.errors import UserError, coded
from library.lora.files import fitted, group_by_module, read_weights, refuse_convolutions, refuse_unknown, write_weights
from library.lora.layers import (
    PLAIN_TENSORS,
    STABLE_DIFFUSION,
    Dropouts,
    Group,
    LoRALayer,
    Patched,
    Prefixes,
    Target,
    TextEncoders,
    compute_together,
    listed,
    model_targets,
)
from library.lora.rate_groups import block_groups, part_groups
from library.lora.settings import Rank, UpRatios, rate_factor, read_file_settings, read_settings
from library.lora.variants.changes import limit_norms, weight_change
from library.words import counted, verb

Number = TypeVar("Number", int, float)
MakeLayer = Callable[[Patched, int, float, float, Dropouts | None], LoRALayer]  # module, rank, alpha, multiplier, dropouts


def new_network(
    make_layer: MakeLayer,
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    neuron_dropout: float | None,
    args: Mapping[str, object],
    prefixes: Prefixes = STABLE_DIFFUSION,
) -> LoRANetwork:
    """As `create_network`, with layers of another kind."""
    settings = read_settings(network_dim, network_alpha, neuron_dropout, args)
    targets = model_targets(text_encoder, unet, prefixes)
    settled = {key: settings.rank(target, key.startswith(prefixes.unet)) for key, target in targets.items()}
    ranks = {key: rank for key, rank in settled.items() if rank is not None}
    settings.refuse_idle_patterns((target, key.startswith(prefixes.unet)) for key, target in targets.items())
    if not ranks:
        what = "--network_args: every block has rank 0 or learning rate weight 0, so there is nothing to train; raise some"
        raise UserError(coded("LORA-009", what))
    return LoRANetwork(targets, ranks, multiplier, settings.dropouts, settings.lr_weights, make_layer, prefixes, settings.up_ratios)


def network_from_weights(
    make_layer: MakeLayer,
    multiplier: float,
    file: str | Path | None,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    weights_sd: Mapping[str, Tensor] | None,
    for_inference: bool,
    args: Mapping[str, object],
    prefixes: Prefixes = STABLE_DIFFUSION,
    kinds: frozenset[str] = PLAIN_TENSORS,
) -> tuple[LoRANetwork, dict[str, Tensor]]:
    """As `create_network_from_weights`, with layers of another kind; `kinds` are the kinds of tensors that the layers take."""
    args = dict(args)
    weights = dict(weights_sd) if weights_sd is not None else read_weights(_file_of_sizes(file))
    source = f"LoRA file {file}" if file is not None else "LoRA weights"
    modules = group_by_module(weights, source, kinds)
    neuron_dropout = args.pop("neuron_dropout", None)
    plain = (None, Dropouts(), UpRatios())
    lr_weights, dropouts, up_ratios = plain if for_inference else read_file_settings(neuron_dropout, args)
    targets = model_targets(text_encoder, unet, prefixes)
    refuse_unknown([key for key in modules if key not in targets], weights, source)
    ranks = {
        key: Rank(modules[key].rank, modules[key].alpha)
        for key, target in targets.items()
        if key in modules and not (lr_weights and key.startswith(prefixes.unet) and rate_factor(target, lr_weights) == 0)
    }
    network = LoRANetwork(targets, ranks, multiplier, dropouts, lr_weights, make_layer, prefixes, up_ratios)
    network.load_tensors(weights, source)
    return network.eval() if for_inference else network, weights


class LoRANetwork(nn.Module):
    """LoRA layers by their file keys. It contains no part of the base model."""

    saves_whole = True  # `save_weights` never leaves an incomplete file
    follows_dtype = True  # layers compute in the dtype of the patched module, so a half-precision model needs no autocast

    def __init__(
        self,
        targets: Mapping[str, Target],
        ranks: Mapping[str, Rank],
        multiplier: float = 1.0,
        dropouts: Dropouts | None = None,
        lr_weights: tuple[float, ...] | None = None,
        make_layer: MakeLayer = LoRALayer,
        prefixes: Prefixes = STABLE_DIFFUSION,
        up_ratios: UpRatios = UpRatios(),  # noqa: B008
    ) -> None:
        """`targets`: all modules of the model that LoRA can patch; `ranks`: those that it patches; `lr_weights`: 25 factors."""
        super().__init__()
        for key, rank in ranks.items():
            self.add_module(key, make_layer(targets[key].module, rank.dim, rank.alpha, multiplier, dropouts))
        self._prefixes = prefixes
        self._paths = {key: target.path for key, target in targets.items()}
        self._extended = frozenset(key for key, target in targets.items() if target.extended)
        self._outside = frozenset(key for key, target in targets.items() if target.outside)
        self._patches_convolutions = not self._extended.isdisjoint(ranks)  # also if a part of it is not applied
        self.multiplier, self.uses_all_weights = multiplier, dropouts is None or not dropouts.module  # `uses_all_weights`: in each pass
        in_file = [(rank, layer.ranks_in_file) for rank, layer in zip(ranks.values(), self.layers().values(), strict=True)]
        self.lora_dim = _one({rank.dim * times for rank, times in in_file})  # for the file's metadata; None if ranks differ
        self.alpha = _one({rank.alpha * times for rank, times in in_file})
        self._lr_weights, self._up_ratios = lr_weights, up_ratios
        self._frozen: frozenset[str] = frozenset()
        self._parts: list[RemovableHandle] = []  # hooks on the models
        of_unet = sum(key.startswith(prefixes.unet) for key in ranks)
        log.info(f"LoRA: {counted(of_unet, 'module')} in the U-Net, {len(ranks) - of_unet} in the text encoder")

    def layers(self, prefix: str = "") -> dict[str, LoRALayer]:
        """Return the layers whose keys start with `prefix`, by key."""
        return {key: layer for key, layer in self.named_children() if isinstance(layer, LoRALayer) and key.startswith(prefix)}

    # Attaching

    def apply_to(
        self, text_encoder: TextEncoders, unet: nn.Module | None, apply_text_encoder: bool = True, apply_unet: bool = True
    ) -> None:
        """Patch the models. Layers of a part that is not applied leave the network. May be called again, also with other models."""
        left_out = (*(() if apply_text_encoder else self._prefixes.text_encoders), *(() if apply_unet else (self._prefixes.unet,)))
        for key, layer in [one for prefix in left_out for one in self.layers(prefix).items()]:
            layer.detach()
            delattr(self, key)
        targets = model_targets(text_encoder if apply_text_encoder else None, unet if apply_unet else None, self._prefixes)
        for key, layer in self.layers().items():
            layer.attach(targets[key].module)
        self._free_parts()
        encoders = zip(self._prefixes.text_encoders, listed(text_encoder), strict=False)
        for prefix, part in [*encoders, *([] if unet is None else [(self._prefixes.unet, unet)])]:
            self._parts += compute_together(part, self.layers(prefix), self._paths)

    def restore(self) -> None:
        """Remove the layers from the models; `apply_to` restores them."""
        for layer in self.layers().values():
            layer.detach()
        self._free_parts()

    def _free_parts(self) -> None:
        while self._parts:
            self._parts.pop().remove()

    def set_multiplier(self, multiplier: float) -> None:
        """Set the strength of the layers; 0 gives the base model's output."""
        self.multiplier = multiplier
        for layer in self.layers().values():
            layer.multiplier = multiplier

    def is_mergeable(self) -> bool:
        """Whether `merge_to` gives the same model as `apply_to`: True, since LoRA is a sum of weights."""
        return True

    @torch.no_grad()
    def merge_to(
        self,
        text_encoder: TextEncoders,
        unet: nn.Module | None,
        weights_sd: Mapping[str, Tensor] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Merge W ← W + multiplier · alpha/rank · up·down into the models, computed in float32 on `device`, stored in `dtype`.

        For DoRA W ← W + multiplier · (W′ − W). Uses `weights_sd` if given, otherwise the network's weights. `device` and `dtype` None:
        those of the weight.
        """
        modules = group_by_module(self.file_weights() if weights_sd is None else weights_sd, "LoRA weights", self._kinds())
        targets = model_targets(text_encoder, unet, self._prefixes)
        refuse_unknown([key for key in modules if key not in targets], modules, "LoRA weights")
        for key, module in modules.items():
            weight = targets[key].module.weight
            wide = weight.to(device or weight.device).float()
            merged = wide + weight_change(wide, module, self.multiplier)
            weight.data = merged.to(device=weight.device, dtype=dtype or weight.dtype)

    # Training

    def prepare_optimizer_params(self, text_encoder_lr: float | None, unet_lr: float | None, default_lr: float | None) -> list[Group]:
        """Return parameter groups with "params", "lr" (absent if unknown) and "name", a label for logs.

        A part without its own rate uses `default_lr`; a part with rate 0 has no group and is frozen. With block learning rates the U-Net
        has one group per block: `unet_IN04`, `unet_MID`, `unet_OUT11`. With LoRA+ the up matrices have separate groups, named `…_plus`.
        """
        text_lr, unet_lr = (default_lr if lr is None else lr for lr in (text_encoder_lr, unet_lr))
        ratios, layers = self._up_ratios, self.layers(self._prefixes.unet)
        parts = [part_groups(label, self.layers(prefix), text_lr, ratios.text_encoder) for label, prefix in self._prefixes.text_labels()]
        if self._lr_weights is None:
            parts.append(part_groups("unet", layers, unet_lr, ratios.unet))
        else:
            parts.append(block_groups("unet", layers, self._paths, self._outside, unet_lr, self._lr_weights, ratios.unet))
        groups = [group for part in parts for group in part]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        self._frozen = frozenset(name for name, parameter in self.named_parameters() if id(parameter) not in trained)
        self._freeze()
        if not groups:
            what = "--learning_rate, --unet_lr, --text_encoder_lr: all rates are 0, so nothing would be trained; raise one"
            raise UserError(coded("OPT-012", what))
        return groups

    def _freeze(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in self._frozen)

    def prepare_grad_etc(self, text_encoder: TextEncoders, unet: nn.Module | None) -> None:
        """Enable gradients for all layers except those with learning rate 0."""
        self._freeze()

    def enable_gradient_checkpointing(self) -> None:
        """Nothing to do: the layers run inside the base model's checkpointed blocks."""

    def on_epoch_start(self, text_encoder: TextEncoders, unet: nn.Module | None) -> None:
        """Turn the dropouts on."""
        self.train()

    def get_trainable_params(self) -> list[nn.Parameter]:
        """The parameters for the optimizer and gradient clipping."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def apply_max_norm_regularization(self, max_norm: float, device: torch.device | str | None = None) -> tuple[int, float, float]:
        """Scale every layer with n = ‖alpha/rank · up·down‖ over `max_norm` down to it, up and down by √(max_norm / n) each (or up alone by
        max_norm / n, if down is not trained). Layers of a part that is not trained do not change.

        Returns how many were scaled, and the mean and the largest n afterwards. Waits for the device once, for any number of layers.
        """
        return limit_norms([layer for layer in self.layers().values() if any(weight.requires_grad for weight in layer.trained())], max_norm)

    # Files

    def load_weights(self, file: str | Path) -> str:
        """Take over a LoRA file's weights and alphas; returns a sentence on what was loaded. Raises UserError if it does not fit."""
        return self.load_tensors(read_weights(file), f"LoRA file {file}")

    def load_tensors(self, weights: Mapping[str, Tensor], source: str) -> str:
        """As `load_weights`, from tensors; `source` names them in messages.

        Modules of the file for parts or blocks that are not trained are left out with a warning; modules that the file lacks keep their
        initial weights.
        """
        modules = group_by_module(weights, source, self._kinds())
        refuse_unknown([key for key in modules if key not in self._paths], weights, source)
        layers = self.layers()
        if not self._patches_convolutions:
            refuse_convolutions([key for key in modules if key in self._extended], source)
        shapes = {key: layer.file_shapes() for key, layer in layers.items()}
        fitting = {key: module for key, module in modules.items() if key in layers}
        fitting = fitted(fitting, shapes, source)
        if not fitting:
            raise UserError(coded("LORA-009", f"{source}: none of its {counted(len(modules), 'module')} is trained with these options"))
        if len(fitting) < len(modules):
            ignored = len(modules) - len(fitting)
            what = verb(ignored, "is ignored; it is", "are ignored; they are")
            log.warning(f"{source}: {ignored} of its {counted(len(modules), 'module')} {what} not trained")
        with torch.no_grad():
            for key, module in fitting.items():
                layers[key].take(module.tensors, source)
        return f"{source}: {len(fitting)} of {counted(len(layers), 'module')} loaded"

    def file_weights(self) -> dict[str, Tensor]:
        """The content of its file; for most layers, their state."""
        return {f"{key}.{end}": tensor for key, layer in self.layers().items() for end, tensor in layer.file_tensors().items()}

    def _kinds(self) -> frozenset[str]:
        return frozenset[str]().union(*(layer.tensors for layer in self.layers().values()))

    def save_weights(self, file: str | Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the network as `.safetensors`, `.pt` or `.ckpt`, in `dtype` (None: as trained)."""
        weights = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in self.file_weights().items()}
        write_weights(file, weights, metadata)


def _one(values: set[Number]) -> Number | None:
    return next(iter(values)) if len(values) == 1 else None


def _file_of_sizes(file: str | Path | None) -> str | Path:
    if file is None:
        raise UserError(coded("OPT-009", "--dim_from_weights: needs the LoRA file to take the sizes from; set --network_weights"))
    return file
