"""Files of Textual Inversion and XTI: the vectors of a new word, in the formats of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from library.containers.uncached import torch_save
from library.containers.weights_file import TensorInfo, dtype_name, is_image_file, open_weights, write_safetensors
from library.errors import UserError, coded
from library.files import atomic_write
from library.words import counted

_FLOATS = ("F64", "F32", "F16", "BF16")
PLACEHOLDER = 265  # the id of "*", which readers of `.pt` files expect and do not use


def read_vectors(path: Path, layers: Sequence[str], width: int, option: str) -> Tensor:
    """Read the vectors of a file, float32 [L,V,D]; `layers` names those of an XTI embedding, empty for a plain one (L = 1).

    Raises UserError, with `option` at the start of its line, for another kind of file or a model of another width.
    """
    tensors = _embedding_tensors(path, option)
    if not layers and len(tensors) > 1:
        raise UserError(
            coded("LORA-012", f"{option} {path}: has vectors for each layer of the U-Net; train it with train_textual_inversion_XTI.py")
        )
    if layers and len(tensors) == 1:
        raise UserError(coded("LORA-012", f"{option} {path}: has vectors for the whole U-Net; train it with train_textual_inversion.py"))
    return _stacked(tensors, layers, width, f"{option} {path}")


def read_any_vectors(path: Path, layers: Sequence[str], width: int, option: str) -> Tensor:
    """As `read_vectors`, for both kinds of file; `layers` are those of the model."""
    tensors = _embedding_tensors(path, option)
    return _stacked(tensors, layers if len(tensors) > 1 else (), width, f"{option} {path}")


def _embedding_tensors(path: Path, option: str) -> dict[str, Tensor]:
    tensors = _tensors(Path(path), option)
    if not all(tensor.dim() in (1, 2) for tensor in tensors.values()) or not tensors or (len(tensors) > 1 and "MID" not in tensors):
        raise UserError(
            coded(
                "LORA-012",
                f"{option} {path}: is not a Textual Inversion embedding; use a .pt, .safetensors or image file that contains one",
            )
        )
    return tensors


def _stacked(tensors: Mapping[str, Tensor], layers: Sequence[str], width: int, where: str) -> Tensor:
    if layers and set(tensors) != set(layers):
        raise UserError(
            coded(
                "LORA-013",
                f"{where}: has vectors for {counted(len(tensors), 'layer')}, the model has {len(layers)}; it is for another model",
            )
        )
    rows = [tensors[name] for name in layers or tensors]
    if len({row.shape for row in rows}) > 1 or not rows[0].numel() or not all(row.isfinite().all() for row in rows):
        raise UserError(
            coded("LORA-013", f"{where}: has no vectors, different counts per layer, or numbers that are not finite; use an older save")
        )
    vectors = torch.stack([row if row.dim() == 2 else row[None] for row in rows])
    if vectors.shape[-1] != width:
        raise UserError(
            coded(
                "LORA-013", f"{where}: has vectors of {counted(vectors.shape[-1], 'number')}, the model of {width}; it is for another model"
            )
        )
    return vectors


def _tensors(path: Path, option: str) -> dict[str, Tensor]:
    """All tensors of a file or image, float32; empty if one of them is not a vector, since it may be a whole model."""
    if is_image_file(path):
        from library.model.files.image_embedding import read_image_embedding

        return read_image_embedding(path, option)
    file = open_weights(path, option)
    if any(len(info.shape) not in (1, 2) or info.dtype not in _FLOATS for info in file.infos.values()):
        return {}
    return {name: tensor.float() for name, tensor in file.read(file.infos)}


def write_vectors(
    path: Path, vectors: Tensor, layers: Sequence[str], word: str, step: int, dtype: torch.dtype | None, metadata: Mapping[str, str]
) -> None:
    """Write vectors [L,V,D] to `path` (.pt, .ckpt or .safetensors), completely or not at all; arguments as in `read_vectors`.

    A plain embedding is named `emb_params` in `.safetensors` files and `string_to_param` in others; XTI vectors have the names of their
    layers. `metadata` goes into `.safetensors` files only.
    """
    values = vectors.detach().to("cpu", dtype or torch.float32, copy=True)
    tensors = dict(zip(layers, values.unbind(), strict=True)) if layers else {"emb_params": values[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        if path.suffix == ".safetensors":
            infos = {name: TensorInfo(dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
            write_safetensors(temporary, infos, tensors.__getitem__, {"format": "pt", **metadata})
        elif layers:
            torch_save({name: tensor.clone() for name, tensor in tensors.items()}, temporary)
        else:
            content = {"string_to_token": {"*": PLACEHOLDER}, "string_to_param": {"*": values[0].clone()}, "name": word, "step": step}
            torch_save(content | {"sd_checkpoint": None, "sd_checkpoint_name": None}, temporary)
