"""Whether the weights of a model are numbers: a failed merge, or one saved in half precision, may have left NaN or infinity in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from library.console import log
from library.errors import UserError, coded
from library.words import counted

if TYPE_CHECKING:
    from torch import Tensor

# of a VAE, and of words that may never be used
_IN_PART = ("decoder.", "post_quant_conv.", "text_model.embeddings.token_embedding.", "embeddings.token_embedding.")


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Raise UserError, with `where` at the start of its line, if a weight is NaN or infinite, as every loss would be.

    Weights that training may not use, a VAE's decoder and the table of words, get a warning.
    """
    import torch

    weights = {name: tensor for name, tensor in weights.items() if not tensor.is_meta}
    if not weights:
        return
    extremes = torch.stack([torch.stack(torch.aminmax(tensor)).float().cpu() for tensor in weights.values()])
    broken = [name for name, finite in zip(weights, extremes.isfinite().all(dim=1).tolist(), strict=True) if not finite]
    if not broken:
        return
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    line = f"{where}: {counted(len(broken), 'tensor')} of {len(weights)} with numbers that are not finite in {dtype}, such as {broken[0]}"
    if all(name.startswith(_IN_PART) for name in broken):
        log.warning("%s; samples or captions that use them give NaN: use another file", line)
    else:
        remedy = "use another model" + (", or --mixed_precision bf16 or no" if dtype == "float16" else "")
        raise UserError(coded("MODEL-020", f"{line}; {remedy}"))
