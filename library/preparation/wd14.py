"""WD14 taggers: finds or downloads model.onnx and selected_tags.csv, prepares images, and runs the model on batches."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from library.console import log
from library.data.pixels.images import Pixels, read_rgb, resize
from library.errors import UserError, coded, first_line
from library.packages import install_command
from library.parsing.json_text import parse_json
from library.paths.faults import new_folder_fault
from library.paths.listing import matching
from library.paths.look import exists, is_file
from library.paths.opening import open_text, read_text
from library.words import counted

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL, LABELS = "model.onnx", "selected_tags.csv"
OTHER_MODEL, OTHER_LABELS = "model_optimized.onnx", "tag_mapping.json"  # of taggers in a subfolder of a repository
GENERAL, ARTIST, COPYRIGHT, CHARACTER, META, RATING = 0, 1, 3, 4, 5, 9  # in selected_tags.csv: Danbooru's, except for RATING
DRAWN_BY, QUALITY = 10, 11  # only in tag_mapping.json
_CATEGORIES = {
    "General": GENERAL, "Artist": ARTIST, "Copyright": COPYRIGHT, "Character": CHARACTER, "Meta": META, "Rating": RATING,
    "Model": DRAWN_BY, "Quality": QUALITY,
}  # fmt: skip
_WHITE = 255
_TOO_NEW = re.compile(r"IR version|opset .*(under development|not (yet )?supported)|is not a registered function", re.IGNORECASE)


@dataclass(frozen=True)
class Label:
    """Meaning of one model output."""

    name: str
    category: int


def locate(model_dir: Path, repo_id: str, force_download: bool) -> Path:
    """The folder with model and labels: `model_dir` or its subfolder named like `repo_id`, downloaded there if necessary."""
    repository, inside = "/".join(repo_id.split("/")[:2]), "/".join(repo_id.split("/")[2:])
    wanted = (OTHER_MODEL, OTHER_LABELS) if inside else (MODEL, LABELS)
    home = model_dir / repository.replace("/", "_")
    own = home / inside
    if not force_download:
        for folder in (own, model_dir):
            if all(is_file(folder / name) for name in wanted):
                return folder
        _refuse_half(model_dir)
    if any(exists(folder / "saved_model.pb") or exists(folder / "keras_metadata.pb") for folder in (own, model_dir)):
        log.warning("--model_dir: %s has a tagger in the older Keras format, which is not used; %s is needed", model_dir, MODEL)
    if fault := new_folder_fault(own):
        raise UserError(fault.reworded(f"--model_dir: {fault}"))
    notes = home / ".cache"  # metadata of the download; may be new although `home` exists
    new = [part for part in (next((part for part in reversed((own, *own.parents)) if not exists(part)), own), notes) if not exists(part)]
    try:
        own.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            if force_download or not is_file(own / name):
                _download(repository, f"{inside}/{name}" if inside else name, home, force_download)
    except BaseException:
        for folder in new:
            _unmake(folder)
        raise
    return own


def _unmake(folder: Path) -> None:
    """Remove a folder created for a failed download; with an incomplete model it stays, so that the download can resume."""
    if not any(path.suffix in (".incomplete", ".onnx") and path.stat().st_size for path in matching(folder, "**/*")):
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_half(folder: Path) -> None:
    """Raise UserError if `folder` has a model without labels, or labels without a model.

    Downloading the missing file would combine files of different models.
    """
    there = {name: is_file(folder / name) for name in (MODEL, LABELS)}
    if sum(there.values()) == 1:
        has, lacks = sorted(there, key=lambda name: not there[name])
        remedy = f"put the {lacks} of the same model next to it, or use --force_download for both"
        raise UserError(coded("TOOL-003", f"--model_dir: {folder} has {has} but no {lacks}; {remedy}"))


def _download(repo_id: str, name: str, folder: Path, force: bool) -> None:
    """Download one file to `folder`. Raises UserError with the reason and, without a network, another way."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    log.info("downloading %s of %s to %s", name, repo_id, folder)
    try:
        hf_hub_download(repo_id, name, local_dir=folder, force_download=force)
    except Exception as fault:  # the classes for a missing network are those of the HTTP library, which differs between versions
        reason = first_line(fault)
        both = (OTHER_MODEL, OTHER_LABELS) if "/" in name else (MODEL, LABELS)
        remedy = f"check --repo_id and the network, or put {' and '.join(both)} into {folder / Path(name).parent} yourself"
        if isinstance(fault, RemoteEntryNotFoundError):
            remedy = "it has no file in the ONNX format, and the older Keras format is not supported; choose another --repo_id"
        raise UserError(coded("HUB-004", f"--repo_id: {repo_id}: {name} cannot be downloaded ({reason.rstrip('.')}); {remedy}")) from None


def read_mapping(path: Path) -> tuple[Label, ...]:
    """The entries of tag_mapping.json, `{"0": {"tag": …, "category": "General"}, …}`, in the order of the model's outputs."""
    try:
        table = parse_json(read_text(path))
        return tuple(Label(table[str(place)]["tag"], _CATEGORIES[table[str(place)]["category"]]) for place in range(len(table)))
    except (KeyError, TypeError, ValueError):
        raise UserError(
            coded("DATA-026", f"--model_dir: {path}: is not a table of tags with their categories; use --force_download")
        ) from None


def read_labels(path: Path) -> tuple[Label, ...]:
    """The rows of selected_tags.csv in the order of the model's outputs."""
    try:
        with open_text(path, newline="") as file:
            return tuple(Label(row["name"], int(row["category"])) for row in csv.DictReader(file))
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(
            coded("DATA-026", f"--model_dir: {path}: is not a table with the columns name and category; use --force_download")
        ) from None


def square(pixels: Pixels, size: int) -> np.ndarray:
    """An image uint8 RGB [H,W,3] centred on a white square and resized to `size`, as float32 BGR [size,size,3] in 0..255."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    canvas = np.full((side, side, 3), _WHITE, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return np.ascontiguousarray(resize(canvas, (size, size))[:, :, ::-1], dtype=np.float32)


class Tagger:
    """A tagger in ONNX format, on the GPU if ONNX Runtime supports it; `size` is the side of its square input in pixels.

    `mapped`: the tagger has a tag_mapping.json, and its outputs are logits instead of probabilities.
    """

    def __init__(self, folder: Path) -> None:
        self.mapped = not is_file(folder / MODEL) and is_file(folder / OTHER_MODEL)
        model = folder / (OTHER_MODEL if self.mapped else MODEL)
        self.labels = read_mapping(folder / OTHER_LABELS) if self.mapped else read_labels(folder / LABELS)
        self._session = _session(model)
        (self._input,) = self._session.get_inputs()
        shape = self._input.shape
        sides, colours = (shape[2:], shape[1]) if self.mapped else (shape[1:3], shape[3])
        if len(shape) != 4 or colours != 3 or not isinstance(sides[0], int) or sides[0] != sides[1]:
            wanted = "[batch, 3, side, side]" if self.mapped else "[batch, side, side, 3]"
            raise UserError(coded("TOOL-003", f"--model_dir: {model}: takes images of the shape {shape}, not {wanted}; use a WD14 tagger"))
        self.size: int = sides[0]
        self._batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        outputs = self._session.get_outputs()[0].shape[-1]
        if isinstance(outputs, int) and outputs != len(self.labels):
            remedy = "they belong to different models; use --force_download"
            table = OTHER_LABELS if self.mapped else LABELS
            raise UserError(
                coded(
                    "TOOL-003",
                    f"--model_dir: {folder}: the model knows {counted(outputs, 'tag')} and {table} has {len(self.labels)}: {remedy}",
                )
            )

    def prepare(self, path: Path) -> np.ndarray:
        """The image file as model input, float32 [size,size,3]: transparency on white, EXIF rotation applied."""
        return square(read_rgb(path), self.size)

    def describe(self, images: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
        """Probabilities [B, tags] for images float32 [B,size,size,3]."""
        if self._batch is None:
            return self._run(images)
        pieces = []
        for start in range(0, len(images), self._batch):  # smaller batches for a model exported with a fixed batch size
            piece = images[start : start + self._batch]
            blank = np.zeros((self._batch - len(piece), *images.shape[1:]), dtype=images.dtype)
            pieces.append(self._run(np.concatenate([piece, blank]))[: len(piece)])
        return np.concatenate(pieces)

    def _run(self, images: np.ndarray) -> np.ndarray:
        answers: np.ndarray
        if not self.mapped:
            answers = self._session.run(None, {self._input.name: images})[0]
            return answers
        scaled = np.ascontiguousarray(images.transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1))
        answers = self._session.run(None, {self._input.name: scaled})[0]
        probabilities: np.ndarray = 1 / (1 + np.exp(-answers))
        return probabilities


def _session(path: Path) -> InferenceSession:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; otherwise ONNX Runtime sends usage data to its makers
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            coded("PKG-001", f"onnxruntime is not installed; run {install_command('onnxruntime')} (onnxruntime-gpu for an NVIDIA card)")
        ) from None
    wanted = ("CUDAExecutionProvider", "ROCMExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as fault:  # ONNX Runtime has a separate class for each reason
        reason = " ".join(str(fault).split())
        remedy = "use --force_download"
        if _TOO_NEW.search(reason):
            remedy = f"it is newer than ONNX Runtime {onnxruntime.__version__} can read: update that, or use an older model"
        raise UserError(coded("TOOL-003", f"--model_dir: {path}: cannot be loaded ({reason[:120]}); {remedy}")) from None
