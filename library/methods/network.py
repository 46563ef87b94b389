"""LoRA and every other network that is added to the model's weights: `--network_module`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from library.caption_rewriting import RewriteCaption, keep_caption
from library.console import log
from library.errors import UserError, coded
from library.lora.bundled.words import tell_left_out
from library.lora.layers import TextEncoders
from library.method import Product
from library.methods.adapted_network import AdaptedNetwork
from library.methods.grip import Grip
from library.methods.network_module import as_modules_expect, import_module, merge_base, part_of, prefixes_for, readable
from library.methods.network_package import blamed, check_algorithm, check_arguments, shown_fault, try_layers
from library.methods.network_settings import NetworkSettings
from library.model.bundle import StableDiffusion
from library.packages import network_package

_REMEDY = "check --network_args, or try another version of its package"


class NetworkMethod:
    """Trains only the network; the model's weights are frozen and stay as loaded."""

    name = "network"
    full_precision = False

    def __init__(self, settings: NetworkSettings) -> None:
        self.settings = settings
        self.rewrite_caption: RewriteCaption = keep_caption
        self.network: Any = None
        self._groups: list[dict[str, Any]] = []
        self._multiplier = 1.0
        self._model: StableDiffusion | None = None
        self._grip: Grip | None = None  # for networks of other packages

    def attach(self, model: StableDiffusion) -> None:
        """Freeze the model, merge `--base_weights` into it and apply the network to U-Net and text encoder."""
        settings = self.settings
        for part in (model.unet, *model.text_encoders, model.vae):
            part.requires_grad_(False)
        module = import_module(settings.module)
        for file, multiplier in settings.base_weights:
            tell_left_out(file, "--base_weights")
            merge_base(module, file, multiplier, model)
        text_encoder = as_modules_expect(model)
        self.network = AdaptedNetwork(self._create(module, model, text_encoder))
        self._model = model
        if settings.keeps_base and not network_package(settings.module).is_ours:
            self._grip = Grip((model.unet, *model.text_encoders))
        with blamed(settings.module, "cannot apply its network to the model", _REMEDY):
            self.network.apply(text_encoder, model.unet, settings.train_text_encoder, settings.train_unet)
        if self._grip is not None:
            self._grip.close(settings.module)
        model.unet_autocast = not getattr(self.network.module, "follows_dtype", False)
        try_layers(settings.module, settings.args, model.unet, *model.text_encoders)
        if settings.weights is not None:
            self._load_weights(settings.weights)
            tell_left_out(settings.weights, "--network_weights", settings.new_words)
        if settings.scale_weight_norms:
            part_of(self.network.module, "apply_max_norm_regularization", "--scale_weight_norms", settings.module)
        if settings.gradient_checkpointing:
            self.network.call("enable_gradient_checkpointing")
        text_encoder_lr = settings.text_encoder_lr if settings.train_text_encoder else 0.0
        unet_lr = settings.unet_lr if settings.train_unet else 0.0
        self._groups = self.network.optimizer_groups(text_encoder_lr, unet_lr, settings.learning_rate)
        if not any(True for group in self._groups for _ in group["params"]):
            raise UserError(
                coded(
                    "LORA-009",
                    f"--network_module {settings.module}: nothing is left to train; check --unet_lr, --text_encoder_lr (0 turns a part "
                    "off), --network_train_…_only and --network_args",
                )
            )
        self.network.call("prepare_grad_etc", text_encoder, model.unet)
        trained = {id(parameter) for group in self._groups for parameter in group["params"]}
        for parameter in self.network.module.parameters():  # a part with learning rate 0 must not cost gradients
            parameter.requires_grad_(id(parameter) in trained)
        if self.trains_text_encoder(0):
            self._check_parts()

    def _check_parts(self) -> None:
        """Raise UserError if an option treats the text encoder's part separately and the network does not show which part that is."""
        settings = self.settings
        stops = settings.text_encoder_updates is not None
        for option, asked in (("--stop_text_encoder_training", stops), ("--max_grad_norm_te", settings.splits_norm)):
            if asked and self.network.of_text_encoder(self._groups) is None:
                part_of(self.network.module, "text_encoder_loras", option, settings.module)

    def _create(self, module: ModuleType, model: StableDiffusion, text_encoder: TextEncoders) -> nn.Module:
        settings = self.settings
        if settings.dim_from_weights:
            dropout = {} if settings.dropout is None else {"neuron_dropout": settings.dropout}
            make = part_of(module, "create_network_from_weights", "--dim_from_weights", settings.module)
            names = prefixes_for(make, model.family, settings.args)
            restored: nn.Module
            assert settings.weights is not None, "checked with the options"
            what = f"cannot create its network from {settings.weights}"
            with (
                blamed(settings.module, what, "use a file of its kind, or networks.lora"),
                readable(settings.module, settings.weights) as file,
            ):
                restored, _ = make(1.0, str(file), model.vae, text_encoder, model.unet, **dropout, **names, **settings.args)
            return restored
        create = part_of(module, "create_network", "--network_module", settings.module)
        extra: dict[str, object] = dict(settings.args)
        if settings.dropout is not None and "neuron_dropout" not in inspect.signature(create).parameters:
            extra.setdefault("dropout", str(settings.dropout))  # for modules without a parameter of that name
        elif settings.dropout is not None:
            extra["neuron_dropout"] = settings.dropout
        for warning in check_arguments(settings.module, module, settings.args):
            log.warning(warning)
        check_algorithm(settings.module, module, settings.args)
        with blamed(settings.module, "cannot create its network", _REMEDY):
            names = prefixes_for(create, model.family, settings.args)
            network: nn.Module = create(1.0, settings.dim, settings.alpha, model.vae, text_encoder, model.unet, **names, **extra)
        return network

    def _load_weights(self, path: Path) -> None:
        load = part_of(self.network.module, "load_weights", "--network_weights", self.settings.module)
        try:
            with readable(self.settings.module, path) as file:
                summary = load(str(file))
        except (KeyError, RuntimeError, TypeError, ValueError) as fault:
            if network_package(self.settings.module).is_ours:
                raise
            raise UserError(
                coded(
                    "LORA-011",
                    f"--network_weights {path}: {self.settings.module} cannot load it into the network that it created "
                    f"({shown_fault(fault)}); set the --network_dim and --network_args that the file was made with, or --dim_from_weights",
                )
            ) from fault
        log.info(f"--network_weights {path}: training continues from this file" + (f" ({summary})" if summary else ""))

    def modules(self) -> list[nn.Module]:
        """The network, which is all that is trained."""
        return [self.network.module]

    def param_groups(self) -> list[dict[str, Any]]:
        """The network's groups: U-Net and text encoder, by block if block learning rates are set."""
        return self._groups

    def trains_text_encoder(self, step: int) -> bool:
        """Whether the text encoder has trained modules on it: until `text_encoder_updates` updates are done."""
        settings = self.settings
        rate, limit = (
            settings.learning_rate if settings.text_encoder_lr is None else settings.text_encoder_lr,
            settings.text_encoder_updates,
        )
        return settings.train_text_encoder and rate != 0 and (limit is None or step < limit)

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """The parameters of the network's text encoder part that are trained at the run's start."""
        return list(self.network.of_text_encoder(self._groups) or ())

    def uses_all_weights(self) -> bool:
        """As the network says; False for one from another package."""
        return bool(getattr(self.network.module, "uses_all_weights", False))

    def set_multiplier(self, multiplier: float) -> None:
        """Set the strength of the network until the next update."""
        if multiplier != self._multiplier:
            part_of(self.network.module, "set_multiplier", "network_multiplier in --dataset_config", self.settings.module)(multiplier)
            self._multiplier = multiplier

    @contextmanager
    def as_before(self) -> Iterator[StableDiffusion]:
        """Yield the model without its network: at multiplier 0, exact for our kinds of networks, or detached."""
        assert self._model is not None, "attach comes first"
        if self._grip is not None:
            with self._grip.let_go():
                yield self._model
            return
        multiplier = self._multiplier
        self.set_multiplier(0.0)
        try:
            yield self._model
        finally:
            self.set_multiplier(multiplier)

    def go_on(self, step: int) -> None:
        """Freeze the text encoder's part if its last update is done."""
        if self.settings.text_encoder_updates is not None and not self.trains_text_encoder(step):
            self._freeze_text_encoder()

    def _freeze_text_encoder(self) -> None:
        for parameter in self.text_encoder_parameters():
            parameter.requires_grad_(False)

    def begin_epoch(self, epoch: int) -> None:
        """Notify the network, which may turn its dropout on."""
        self.network.call("on_epoch_start", None, None)

    def after_step(self, step: int) -> Mapping[str, float]:
        """Restore the network's full strength, and limit the norm of each module's weights if `--scale_weight_norms` is set.

        The text encoder's part is frozen permanently after its last update.
        """
        self.set_multiplier(1.0)
        norms = self._limit_norms()
        if self.trains_text_encoder(step) and not self.trains_text_encoder(step + 1):
            self._freeze_text_encoder()
        return norms

    def _limit_norms(self) -> Mapping[str, float]:
        limit = self.settings.scale_weight_norms
        if not limit:
            return {}
        module = self.network.module
        # a part at rate 0 must not change, even if the module's own code would scale it
        frozen = [(parameter, parameter.detach().clone()) for parameter in module.parameters() if not parameter.requires_grad]
        scaled, mean, largest = module.apply_max_norm_regularization(limit, next(module.parameters()).device)
        for parameter, before in frozen:
            parameter.data.copy_(before)
        return {"max_norm/keys_scaled": float(scaled), "max_norm/average_key_norm": float(mean), "max_norm/max_key_norm": float(largest)}

    def describe(self) -> Mapping[str, Any]:
        """The `ss_network_*` keys that other programs read."""
        settings = self.settings
        args = dict(settings.args)
        if settings.dropout is not None:
            args["dropout"] = str(settings.dropout)
        metadata = {
            "ss_network_module": settings.module,
            "ss_network_dim": getattr(self.network.module, "lora_dim", None) or settings.dim,
            "ss_network_alpha": getattr(self.network.module, "alpha", None) or settings.alpha,
            "ss_network_dropout": settings.dropout,
            "ss_unet_lr": settings.unet_lr,
            "ss_text_encoder_lr": settings.text_encoder_lr,
            "ss_scale_weight_norms": settings.scale_weight_norms,
        }
        return metadata | ({"ss_network_args": args} if args else {})  # programs read it as JSON, or ignore it

    def products(self, save_model_as: str | None) -> list[Product]:
        """The network's file."""
        return [Product(self.name, f".{save_model_as or 'safetensors'}", self.save)]

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the network's file; the extension of `path` selects the format."""
        self.network.save(path, dtype, metadata)
