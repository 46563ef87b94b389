"""Import the model classes, and what a run uses of accelerate, without what is not used here."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib import import_module

from library.console import log
from library.light_imports.late_dynamo import fetch_dynamo, put_off_dynamo
from library.light_imports.late_package import fetch, put_off
from library.light_imports.later import left_for_later
from library.telling.environment import variables_named

MODELS = (
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
)
SHARDED = ("torch.distributed.tensor",)  # tensors over several devices
# What models also import: for quantized, sharded and converted models, detection losses, and adapters of other packages
LATER = (
    "bitsandbytes",
    "diffusers.loaders.single_file_utils",
    "peft",
    "scipy",
    "torch._dynamo._trace_wrapped_higher_order_op",
    *SHARDED,
    "transformers.distributed.expert_parallel",
    "transformers.distributed.tensor_parallel",
)
PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "transformers.models",
)


def import_models(compiled: bool = False) -> None:
    """Import U-Net, VAE and text encoder in about a quarter of the time; nothing is missing afterwards.

    A `compiled` run imports them normally, since it needs the compiler anyway; so does any run whose version of diffusers or transformers
    does not work this way.
    """
    with variables_named():
        import accelerate  # noqa: F401  # before anything is put off: it looks at what is installed
        import torch  # noqa: F401

    try:
        if not compiled:
            _import_lightly()
    except Exception as fault:  # a normal import gives the better error
        log.debug(f"models are imported with all that comes with them ({type(fault).__name__}: {fault})")
        fetch_dynamo()
        for package in PACKAGES:
            fetch(package)
    without_quantizers()


def _import_lightly() -> None:
    put_off_dynamo()
    with left_for_later(LATER), _asked_once():
        import_module("diffusers.models")
        import_module("transformers")
        without_quantizers()
        for package in PACKAGES:
            put_off(package)
        for model in MODELS:
            import_module(model)
    _scale_without_peft()


def without_quantizers() -> None:
    """Mark bitsandbytes as unavailable in diffusers, whose quantization is not used here; optimizers import it themselves.

    If a newer diffusers stores this elsewhere, only a second is lost.
    """
    from diffusers.utils import import_utils

    if hasattr(import_utils, "_bitsandbytes_available"):
        import_utils._bitsandbytes_available = False


def _scale_without_peft() -> None:
    """Skip diffusers' scaling of PEFT layers by 1, which it does in each forward pass, so that PEFT is not imported."""
    from diffusers.utils import peft_utils

    def unless_by_one(scale: Callable[..., None]) -> Callable[..., None]:
        @wraps(scale)
        def quick(model: object, weight: float | None = None) -> None:
            if weight is not None and weight != 1.0:
                scale(model, weight)

        return quick

    for name in ("scale_lora_layers", "unscale_lora_layers"):
        if not hasattr(getattr(peft_utils, name), "__wrapped__"):
            setattr(peft_utils, name, unless_by_one(getattr(peft_utils, name)))


@contextmanager
def _asked_once() -> Iterator[None]:
    """A context in which the list of installed packages is read once, not once per library."""
    plain: Callable[[], object] = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = cache(plain)  # type: ignore[assignment]  # a function for a function
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = plain  # type: ignore[assignment]  # the original
