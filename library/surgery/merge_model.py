"""Merge networks into a model, tensor by tensor: only one weight is in memory, for a model of any size."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from library.console import log, progress
from library.containers.dtypes import torch_dtype
from library.containers.uncached import torch_save
from library.containers.weights_file import TensorInfo, WeightsFile, dtype_name, is_index, write_safetensors
from library.errors import UserError, coded
from library.files import atomic_folder, atomic_write
from library.model.bundle import StableDiffusion
from library.model.diffusers_folder import STEMS
from library.model.family import V2, ModelFamily
from library.model.files import convert
from library.model.save import COUNTS, FLOATS, NETWORKS
from library.parsing.whole import whole_number
from library.paths.listing import matching
from library.paths.look import exists, is_file
from library.surgery.checkpoint import Checkpoint, key_of
from library.surgery.deltas import bias_change, change, check_fit
from library.surgery.network_file import NetworkFile
from library.surgery.own_metadata import renamed
from library.surgery.receipt import Entry, hand_over, overflows

if TYPE_CHECKING:
    from library.model.bundle import StableDiffusion

MERGE_ERROR = "what rounding took from the change / the change that the networks make"
FILES = (".safetensors", ".ckpt")


@dataclass
class ModelMerge:
    """W + Σ ratio · ΔW for each weight that the networks patch, summed in `precision`, saved in `save_dtype`; writes the receipt."""

    networks: Sequence[tuple[NetworkFile, float]]
    family: ModelFamily
    precision: torch.dtype
    save_dtype: torch.dtype
    entries: list[Entry] = field(init=False, default_factory=list)
    keys: frozenset[str] = field(init=False)
    advance: Callable[[], Any] = field(init=False, default=lambda: None)  # called after each module

    def __post_init__(self) -> None:
        self.keys = frozenset(key for network, _ in self.networks for key in network.modules)

    def __call__(self, key: str, weight: Tensor) -> Tensor:
        """Return the weight [out, in(, kh, kw)] plus the networks' changes, in the dtype to save; other weights are only cast."""
        changes = [ratio * change(network, key, weight) for network, ratio in self.networks if key in network.modules]
        if not changes:
            return weight.to(self.save_dtype)
        saved = self._summed(key, weight, changes)
        self.advance()
        return saved

    def bias(self, key: str, bias: Tensor) -> Tensor:
        """The same for a layer's bias [out]."""
        pairs = [(bias_change(network, key), ratio) for network, ratio in self.networks if key in network.modules]
        changes = [ratio * by for by, ratio in pairs if by is not None]
        for network, _ in self.networks if any(by.shape != bias.shape for by in changes) else ():
            raise UserError(
                coded("TOOL-006", f"{network.source}: {key} changes a bias of another size than the model's; it belongs to another model")
            )
        return self._summed(f"{key} (bias)", bias, changes) if changes else bias.to(self.save_dtype)

    def tensor(self, part: str, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor of U-Net or text encoder by its dotted name, with the networks' changes, if any."""
        path, _, kind = name.rpartition(".")
        if kind == "weight":
            return self(key_of(self.family, part, path), tensor)
        return self.bias(key_of(self.family, part, path), tensor) if kind == "bias" else tensor.to(self.save_dtype)

    def reaches(self, place: convert.Place) -> bool:
        """Whether the networks may patch one of the tensors at `place`."""
        return any(key_of(self.family, place.part, name.rpartition(".")[0]) in self.keys for name in place.names)

    def _summed(self, key: str, weight: Tensor, changes: Sequence[Tensor]) -> Tensor:
        """Return the weight plus all changes, rounded as saved; writes a line of the receipt."""
        change = torch.stack(tuple(changes)).sum(0) if len(changes) > 1 else changes[0]
        saved = (weight.to(self.precision) + change.to(self.precision)).to(self.save_dtype)
        norm = float(torch.linalg.vector_norm(change))
        lost = float(torch.linalg.vector_norm((saved.float() - weight.float()) - change)) if saved.isfinite().all() else float("inf")
        error = lost / norm if norm else (float("inf") if lost else 0.0)
        self.entries.append(Entry(key, error, norm, overflows(weight.float() + change, saved)))
        return saved


def merge_into_model(
    model: Checkpoint, merge: ModelMerge, save_to: Path, metadata: Mapping[str, str], verbose: bool, max_error: float | None
) -> None:
    """Write `model` with the networks merged into it to `save_to`: a .safetensors or .ckpt file, or a Diffusers folder.

    If the layout does not change, tensors are copied one at a time; otherwise the model is loaded. Writes completely or not at all.
    """
    for network, _ in merge.networks:
        shapes: dict[str, tuple[int, ...]] = {key: weight.shape for key, weight in model.weights.items()}
        check_fit(network, shapes | dict(model.norms), model.biases)
    to_folder = save_to.suffix.lower() not in FILES
    if to_folder and exists(save_to) and not is_file(save_to / "model_index.json"):
        raise UserError(
            coded("PATH-011", f"--save_to {save_to}: already exists and is not a Diffusers model; use a .safetensors file or a new folder")
        )
    save_to.parent.mkdir(parents=True, exist_ok=True)
    with progress(total=len(merge.keys), label="merging", unit="module") as bar:
        merge.advance = bar.update
        if to_folder != model.is_folder:
            loaded = _loaded(model, merge)
            hand_over(merge.entries, MERGE_ERROR, verbose, max_error)
            _save(loaded, save_to, merge.save_dtype)
        elif to_folder:
            with atomic_folder(save_to) as fresh:
                _fill_folder(model, merge, fresh)
                hand_over(merge.entries, MERGE_ERROR, verbose, max_error)
        else:
            with atomic_write(save_to) as temporary:
                _fill_file(model, merge, temporary, save_to, metadata)
                hand_over(merge.entries, MERGE_ERROR, verbose, max_error)
    log.info("saved %s", save_to)


def _fill_file(model: Checkpoint, merge: ModelMerge, temporary: Path, save_to: Path, metadata: Mapping[str, str]) -> None:
    ((file, places),) = model.files
    infos = {name: _saved_info(name, info, merge.save_dtype) for name, info in file.infos.items()}
    patched = _Patched(file, places, merge, infos)
    if save_to.suffix.lower() == ".safetensors":
        write_safetensors(temporary, infos, patched, {"format": "pt", **renamed(file.metadata, save_to.stem), **metadata})
        return
    counts = {name: count for name, text in file.metadata.items() if name in COUNTS and (count := whole_number(text)) is not None}
    torch_save({"state_dict": {name: patched(name).contiguous() for name in infos}, **counts}, temporary)


def _fill_folder(model: Checkpoint, merge: ModelMerge, fresh: Path) -> None:
    """Copy everything of the source folder except U-Net and text encoder, and write those two merged."""
    patched_folders = {file.path.parent for file, _ in model.files}
    source = model.files[0][0].path.parents[1]
    for path in matching(source, "**/*"):
        relative = path.relative_to(source)
        replaced = path.parent in patched_folders and (path.suffix != ".json" or is_index(path))
        if is_file(path) and not replaced and not relative.parts[0].startswith("."):
            (fresh / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, fresh / relative)
    for file, places in model.files:
        part = file.path.parent.name
        kind = dtype_name(merge.save_dtype)
        infos = {name: replace(info, dtype=kind) if info.dtype in FLOATS else info for name, info in file.infos.items()}
        write_safetensors(fresh / part / f"{STEMS[part]}.safetensors", infos, _Patched(file, places, merge, infos), {"format": "pt"})


def _loaded(model: Checkpoint, merge: ModelMerge) -> StableDiffusion:
    """Load the model into memory, in float32, with the networks merged in."""
    from library.model.load import load

    facts = model.facts
    loaded = load(facts.path, facts.family is V2, facts.prediction == "v_prediction", option=facts.option)
    with torch.no_grad():
        for part in ("unet", "text_encoder"):
            for name, tensor in getattr(loaded, part).state_dict().items():
                tensor.copy_(merge.tensor(part, name, tensor))
    return loaded


def _save(loaded: StableDiffusion, save_to: Path, dtype: torch.dtype) -> None:
    from library.model.save_forms import save_product

    form = {".safetensors": "safetensors", ".ckpt": "ckpt"}.get(save_to.suffix.lower(), "diffusers_safetensors")
    save_product(loaded, save_to, form, dtype)


def _saved_info(name: str, info: TensorInfo, dtype: torch.dtype) -> TensorInfo:
    """The info a tensor is saved with: those of U-Net, text encoder and VAE in `dtype`, schedules and counters unchanged."""
    return replace(info, dtype=dtype_name(dtype)) if info.dtype in FLOATS and name.startswith(NETWORKS) and info.shape else info


@dataclass(frozen=True)
class _Patched:
    """Reads the tensors of a file by name, with the networks' changes, if any."""

    file: WeightsFile
    places: Mapping[str, convert.Place]
    merge: ModelMerge
    infos: Mapping[str, TensorInfo]

    def __call__(self, name: str) -> Tensor:
        ((_, tensor),) = self.file.read([name])
        place = self.places.get(name)
        if place is None or place.part == "vae" or not self.merge.reaches(place):
            return tensor.to(torch_dtype(self.infos[name].dtype), copy=True)
        merged = {ours: self.merge.tensor(place.part, ours, part) for ours, part in convert.to_parts(place, tensor).items()}
        return convert.to_original(place, merged, tensor.ndim)
