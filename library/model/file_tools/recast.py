"""Convert a file of weights to another format or precision, tensor by tensor, with any contents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import progress
from library.containers.dtypes import torch_dtype
from library.containers.uncached import torch_save
from library.containers.weights_file import TensorInfo, WeightsFile, dtype_name, write_safetensors
from library.errors import UserError, coded
from library.files import atomic_write
from library.model.save import COUNTS, FLOATS, NETWORKS
from library.parsing.whole import whole_number

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def recast(file: WeightsFile, save_to: Path, dtype: torch.dtype | None, metadata: Mapping[str, str], trained: tuple[int, int]) -> None:
    """Write `file` to `save_to` (.safetensors or .ckpt) with the networks' tensors in `dtype` (None: unchanged).

    Names and all other tensors do not change. `trained` epochs and updates are added to the counts in the file. A .ckpt is built in
    memory.
    """

    infos = {name: _cast(name, info, dtype) for name, info in file.infos.items()}
    before = (file.metadata.get(name, "0") for name in COUNTS)
    counts = {name: more + (whole_number(old) or 0) for name, old, more in zip(COUNTS, before, trained, strict=True)}
    counted = any(trained) or any(name in file.metadata for name in COUNTS)
    save_to.parent.mkdir(parents=True, exist_ok=True)
    with progress(total=len(infos), label="converting", unit="tensor") as bar, atomic_write(save_to) as temporary:

        def tensor(name: str) -> Tensor:
            ((_, loaded),) = file.read([name])
            bar.update()
            converted = loaded.to(torch_dtype(infos[name].dtype), copy=True).contiguous()
            refuse_too_large(f"model_to_load {file.path.name}: {name}", loaded, converted)
            return converted

        if save_to.suffix.lower() == ".safetensors":
            new_counts = {name: str(count) for name, count in counts.items()} if counted else {}
            write_safetensors(temporary, infos, tensor, {"format": "pt", **file.metadata, **new_counts, **metadata})
        else:
            torch_save({"state_dict": {name: tensor(name) for name in infos}, **(counts if counted else {})}, temporary)


def refuse_too_large(name: str, before: Tensor, after: Tensor) -> None:
    """Raise UserError if a finite number of `before` is infinite in the precision of `after`."""
    if before.dtype != after.dtype and before.is_floating_point() and bool((after.isinf() & ~before.isinf()).any()):
        kind = dtype_name(after.dtype)
        raise UserError(coded("FILE-009", f"{name} has numbers that are too large for {kind}; convert with --bf16 or --float"))


def _cast(name: str, info: TensorInfo, dtype: torch.dtype | None) -> TensorInfo:
    if dtype is None or info.dtype not in FLOATS or not name.startswith(NETWORKS) or not info.shape:
        return info
    return replace(info, dtype=dtype_name(dtype))
