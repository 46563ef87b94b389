"""The classes of models and what a run calls of accelerate, imported without what nobody here uses."""

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

MODELS = (
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
)
SHARDED = ("torch.distributed.tensor",)  # tensors over several devices
# What models import beside themselves, for quantized, sharded and converted ones, losses of detectors, adapters of others
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

    Where a later diffusers or transformers cannot be imported this way, they are imported as they are, and so they are for a run that is
    `compiled`, which needs the compiler anyway.
    """
    import accelerate  # noqa: F401  # before anything is put off: it looks at what is installed
    import torch  # noqa: F401

    try:
        if not compiled:
            _import_lightly()
    except Exception as fault:  # whatever it is, the plain import says it better
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
    """Tell diffusers that bitsandbytes is not there, for quantization that nobody here uses; optimizers import it by themselves.

    Should a later diffusers keep that knowledge elsewhere, the only loss is a second.
    """
    from diffusers.utils import import_utils

    if hasattr(import_utils, "_bitsandbytes_available"):
        import_utils._bitsandbytes_available = False


def _scale_without_peft() -> None:
    """Let diffusers scale PEFT's layers by 1, as it does in each forward pass, without importing PEFT for it."""
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
    """Inside, the packages that are installed are read once instead of by each library."""
    plain: Callable[[], object] = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = cache(plain)  # type: ignore[assignment]  # a function for a function
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = plain  # type: ignore[assignment]  # the one that was there
