"""A network module of any origin: imported, inspected, and given model and files in the form it reads."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from library.console import log
from library.errors import UserError, coded
from library.lora.file_copy import in_web_ui_names
from library.lora.layers import Prefixes, TextEncoders
from library.model.bundle import StableDiffusion
from library.model.family import ModelFamily
from library.packages import install_command, network_package


def as_modules_expect(model: StableDiffusion) -> TextEncoders:
    """Return the text encoder, or a list if the model has several, as network modules expect it."""
    text_encoders = [_with_level(text_encoder) for text_encoder in model.text_encoders]
    return text_encoders if len(text_encoders) > 1 else text_encoders.pop()


def prefixes_for(make: Callable[..., Any], family: ModelFamily, args: Mapping[str, str]) -> dict[str, Prefixes]:
    """Return the prefixes of the family's tensor names for modules that take them; others have fixed names."""
    if "prefixes" not in inspect.signature(make).parameters:
        return {}
    if "prefixes" in args:
        raise UserError(coded("LORA-007", "--network_args prefixes: follows from the model; remove it"))
    return {"prefixes": Prefixes(family.unet.lora_prefix, tuple(encoder.lora_prefix for encoder in family.text_encoders))}


def _with_level(text_encoder: nn.Module) -> nn.Module:
    """Return the text encoder with the `text_model` level that transformers dropped: network modules build tensor names from it."""
    if hasattr(text_encoder, "text_model"):
        return text_encoder
    level = nn.Module()
    level.text_model = text_encoder
    return level


def import_module(name: str) -> ModuleType:
    """Import the module that `--network_module` names; raises UserError with the missing package."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None:
            raise UserError(
                coded("PKG-001", f"--network_module {name}: a module that it needs is missing ({error}); install it")
            ) from error
        if not (name == error.name or name.startswith(error.name + ".")):
            raise UserError(
                coded(
                    "PKG-001",
                    f"--network_module {name}: it needs the package {error.name!r}; install it with: {install_command(error.name)}",
                )
            ) from error
        package = network_package(name)
        remedy = "use networks.lora" if package.is_ours else f"{install_command(package.install)}, or use networks.lora"
        raise UserError(coded("LORA-010", f"--network_module {name}: module not found; {remedy}")) from error


def part_of(owner: object, name: str, option: str, module: str) -> Any:
    """Return an attribute that an option requires of a network or its module. Raises UserError if a custom module lacks it."""
    part = getattr(owner, name, None)
    if part is None and option == "--network_module":
        raise UserError(coded("LORA-010", f"{option} {module}: is not a network module, since it has no {name}; use networks.lora"))
    if part is None:
        raise UserError(
            coded("LORA-010", f"{option}: needs {name}, which --network_module {module} does not have; remove it, or use networks.lora")
        )
    return part


def readable(module: str, file: Path) -> contextlib.AbstractContextManager[Path]:
    """Return the file in the form that `module` reads: ours reads all names, others get a copy with web UI names if necessary."""
    return contextlib.nullcontext(file) if network_package(module).is_ours else in_web_ui_names(file)


def merge_base(module: ModuleType, file: Path, multiplier: float, model: StableDiffusion) -> None:
    """Merge one of `--base_weights` into the model. For modules that are not ours it is merged at full strength and the model is then
    interpolated, since LyCORIS ignores the multiplier. Raises UserError if nothing in the file fits.
    """
    own = network_package(module.__name__).is_ours
    text_encoder = as_modules_expect(model)
    make = part_of(module, "create_network_from_weights", "--base_weights", module.__name__)
    names = prefixes_for(make, model.family, {})
    with readable(module.__name__, file) as checked:
        network, weights = make(multiplier if own else 1.0, str(checked), model.vae, text_encoder, model.unet, for_inference=True, **names)
    lists = [getattr(network, name, None) for name in ("unet_loras", "text_encoder_loras")]  # LyCORIS keeps its modules here
    if not any(lists) and not list(network.parameters()):  # networks.lora reports it; others accept any file
        raise UserError(
            coded(
                "LORA-003", f"--base_weights {file}: {module.__name__} finds nothing in it that matches this model; use a file of its kind"
            )
        )
    dtype = model.unet.dtype
    parts = () if own or multiplier == 1 else (*model.text_encoders, model.unet)
    before = [{name: parameter.detach().clone() for name, parameter in part.named_parameters()} for part in parts]
    network.merge_to(text_encoder, model.unet, weights, dtype, "cpu")
    with torch.no_grad():
        for part, old in zip(parts, before, strict=True):
            for name, parameter in part.named_parameters():
                parameter.copy_(torch.lerp(old[name].float(), parameter.float(), multiplier))
    log.info(f"--base_weights {file}: merged into the model with multiplier {multiplier:g}")
