"""Keeps diffusers from importing bitsandbytes for quantization that nobody here uses: it costs a second and prints warnings on a CPU."""

from __future__ import annotations


def without_quantizers() -> None:
    """Tell diffusers that bitsandbytes is not there, before its models are imported; optimizers import it by themselves.

    Should a later diffusers keep that knowledge elsewhere, the only loss is the second.
    """
    from diffusers.utils import import_utils

    if hasattr(import_utils, "_bitsandbytes_available"):
        import_utils._bitsandbytes_available = False
