"""Apply networks to a model for generation: any number, each with an adjustable strength, and remove them again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from library.console import log
from library.containers.weights_file import open_weights
from library.errors import UserError, coded, first_line
from library.generation.checks import NetworkChoice
from library.lora.files import kind_of_file
from library.methods.network_module import as_modules_expect, import_module, part_of, prefixes_for, readable
from library.methods.network_package import blamed, try_layers
from library.model.bundle import StableDiffusion
from library.packages import network_package

OURS, DORA, LYCORIS = "networks.lora", "networks.dora", "lycoris.kohya"
KNOWN = (OURS, "networks.lora_fa", "networks.dylora", DORA, LYCORIS)  # modules that a file may name: other code is not imported
_REMEDY = "set the module that made the file with --network_module"


class AppliedNetwork:
    """A network on a model, with its current `strength`."""

    def __init__(self, choice: NetworkChoice, module: str, network: nn.Module) -> None:
        self.choice, self.module, self.network = choice, module, network
        self.strength = choice.strength

    @property
    def follows_dtype(self) -> bool:
        """Whether it computes in the dtype of the patched model, without autocast."""
        return bool(getattr(self.network, "follows_dtype", False))

    def set_strength(self, strength: float) -> None:
        """Set the strength from now on."""
        if strength != self.strength:
            part_of(self.network, "set_multiplier", "--am", self.module)(strength)
            self.strength = strength

    def remove(self) -> None:
        """Remove it and restore the model."""
        restore: Any = part_of(self.network, "restore", self.choice.option, self.module)
        restore()


def module_of(file: Path, option: str = "--network_weights") -> str:
    """Return the module that reads the file: the one it names, if known here, or else the one that its tensors show."""
    weights = open_weights(file, option)
    said = weights.metadata.get("ss_network_module", "")
    if said in KNOWN:
        return said
    shown = kind_of_file(weights.infos)
    return next((module for module in (DORA, LYCORIS) if module in shown), OURS)


def apply_network(model: StableDiffusion, choice: NetworkChoice) -> AppliedNetwork:
    """Apply the network of a file to the model. Raises UserError for a file that does not fit the model or its module."""
    name = choice.module or module_of(choice.file, choice.option)
    module, args = import_module(name), dict(choice.args)
    make = part_of(module, "create_network_from_weights", choice.option, name)
    names = prefixes_for(make, model.family, args)
    text_encoder = as_modules_expect(model)
    with (
        blamed(name, f"cannot create its network from {choice.file}", _REMEDY),
        _fitting(name, choice),
        readable(name, choice.file) as file,
    ):
        network, _ = make(choice.strength, str(file), model.vae, text_encoder, model.unet, for_inference=True, **names, **args)
    lists = [getattr(network, part, None) for part in ("unet_loras", "text_encoder_loras")]  # LyCORIS keeps its modules here
    if not any(lists) and not list(network.parameters()):
        message = f"{name} finds nothing in it that matches this model; use a file of its kind"
        raise UserError(coded("LORA-003", f"{choice.option} {choice.file}: {message}"))
    with blamed(name, f"cannot apply the network of {choice.file} to the model", _REMEDY):
        network.apply_to(text_encoder, model.unet, True, True)
    network.to(model.unet.device).requires_grad_(False).eval()
    with _fitting(name, choice):
        try_layers(name, args, model.unet, *model.text_encoders)
    log.info(f"{choice.option} {choice.file}: {name}, strength {choice.strength:g}")
    return AppliedNetwork(choice, name, network)


def settle_autocast(model: StableDiffusion, networks: list[AppliedNetwork]) -> None:
    """Turn autocast off for a half-precision U-Net if no network on it needs autocast."""
    model.unet_autocast = not all(network.follows_dtype for network in networks)


@contextlib.contextmanager
def _fitting(module: str, choice: NetworkChoice) -> Iterator[None]:
    """Turn torch's shape errors into a UserError that names the file, for modules that are not ours."""
    try:
        yield
    except RuntimeError as fault:
        if network_package(module).is_ours or isinstance(fault, torch.OutOfMemoryError):
            raise
        message = f"{choice.option} {choice.file}: {module} cannot use it with this model ({first_line(fault)})"
        raise UserError(coded("LORA-005", f"{message}; use the model that it was made for")) from fault
