"""Find the file or folder for what a user typed: local paths first, then the Hugging Face Hub, with a clear message for a typo."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from library.console import log
from library.containers.weights_file import SHARD, is_index
from library.errors import UserError, coded, first_line, named_line
from library.paths.faults import model_fault
from library.paths.listing import names_in
from library.paths.look import exists, expanded, is_file, is_folder

WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
# Download only what is read from a Hub repository: configs first, then one format of each part's weights.
CONFIG_FILES = ("model_index.json", "config.json", "*/config.json", "scheduler/scheduler_config.json")
PARTS = ("unet", "text_encoder", "vae")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_VARIANT = re.compile(rf"(?P<stem>{'|'.join(STEMS)})\.(?P<variant>[\w-]+)(?P<suffix>\.safetensors|\.bin)")  # ….non_ema.safetensors
_OTHER_WEIGHTS = {".msgpack": "Flax", ".onnx": "ONNX Runtime", ".h5": "TensorFlow", ".xml": "OpenVINO", ".ckpt": "other programs"}
_LOCAL = "use the path of a local file or folder"
_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
VARIANTS = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")


def locate(name: str, option: str, with_weights: bool = True) -> Path:
    """Return the file or folder for `name`; a Hub id becomes a folder in the Hub's cache, with only its configs unless `with_weights`.

    Raises UserError naming `option` if nothing exists there, without asking the Hub about what looks like a local path.
    """
    path = expanded(Path(name))
    if fault := model_fault(path):
        raise UserError(fault.reworded(f"{option}: {fault}"))
    if exists(path):
        return path
    if not _is_hub_id(name):
        raise UserError(coded("MODEL-001", f"{option} '{name}': {_missing(path)}"))
    return _from_hub(name, option, with_weights)


def part_weights(folder: Path, option: str) -> Path:
    """Return the weights file in the folder of one part of a Diffusers model, or the index of several: prefers full precision, then
    safetensors.

    Raises UserError if it is missing, and names what the folder has instead.
    """
    path = _weights_of_part(folder)
    if path is None:
        raise UserError(coded("MODEL-004", f"{option} {folder}: {_instead(folder)}"))
    return path


def part_bytes(folder: Path) -> int:
    """Return the size in bytes of the weights of one part of a Diffusers model; 0 without weights."""
    path = _weights_of_part(folder)
    if path is None:
        return 0
    if not is_index(path):
        return path.stat().st_size
    return sum(piece.stat().st_size for piece in folder.iterdir() if SHARD.fullmatch(piece.name) and piece.suffix in path.name)


def _weights_of_part(folder: Path) -> Path | None:
    return next((folder / name for name in _weight_names() if is_file(folder / name)), None)


def _weight_names() -> list[str]:
    """The possible names of a part's weights, best first: for each format, one file before the index of several."""
    names = []
    for variant in VARIANTS:
        mark, suffix = variant.rpartition(".")[0], "." + variant.rpartition(".")[2]
        for stem in STEMS:
            names += [stem + variant, f"{stem}{suffix}.index{mark}.json"]
    return names


def _instead(folder: Path) -> str:
    """Why the folder of a part has no usable weights: what it has, and what to do."""
    names = names_in(folder)
    for name in names:
        if match := _VARIANT.fullmatch(name):
            wanted = match["stem"] + match["suffix"]
            return (
                f"has only the variant {match['variant']!r} of its weights ({name}); rename that file to {wanted} to use it, "
                f"or download {wanted}"
            )
    for name in names:
        if match := SHARD.fullmatch(name):
            return f"has {name}, one file of several, but not their index {match['stem']}{match['rest']}.index.json; download it too"
    for name in names:
        if kind := _OTHER_WEIGHTS.get(Path(name).suffix.lower()):
            return (
                f"has weights for {kind} ({name}) but none for PyTorch; download diffusion_pytorch_model.safetensors or model.safetensors"
            )
    return "has no weights (such as diffusion_pytorch_model.safetensors); download the folder again"


def _is_hub_id(name: str) -> bool:
    """Whether `name` can only be a Hub id: owner/model, no file ending, and no local folder with the name of the owner."""
    return bool(_HUB_ID.fullmatch(name)) and not name.lower().endswith(WEIGHT_SUFFIXES) and not exists(Path(name.split("/")[0]))


def _missing(path: Path) -> str:
    """Why a local path does not exist, with similar names at the level where it fails."""
    folder = path.parent
    wanted = path.name
    while not is_folder(folder) and folder != folder.parent:
        folder, wanted = folder.parent, folder.name
    names = [name for name in names_in(folder) if folder / name != path]  # not itself, if it is a broken link
    stems: dict[str, list[str]] = {}  # without the ending, which all model files share
    for name in names:
        stems.setdefault(Path(name).stem.lower(), []).append(name)
    close = [name for stem in difflib.get_close_matches(Path(wanted).stem.lower(), stems, n=3, cutoff=0.6) for name in stems[stem]]
    where = f"'{wanted}' does not exist in {folder.absolute()}"
    if close:
        return f"{where}; did you mean {' or '.join(close)}?"
    models = [name for name in names if name.lower().endswith(WEIGHT_SUFFIXES[:2])][:3]
    return f"{where}; its model files are {', '.join(models)}" if models else f"{where}; check the path"


def _from_hub(name: str, option: str, with_weights: bool) -> Path:
    from huggingface_hub import constants
    from huggingface_hub import errors as hub_errors

    why, remedy, cause = "HF_HUB_OFFLINE is set", _LOCAL, None
    if not constants.HF_HUB_OFFLINE:
        try:
            return _download(name, with_weights)
        except hub_errors.GatedRepoError as fault:
            page = f"{constants.ENDPOINT}/{name}"
            raise UserError(
                coded("MODEL-002", f"{option} '{name}': this model has terms; accept them on {page}, and log in with `hf auth login`")
            ) from fault
        except hub_errors.RepositoryNotFoundError as fault:
            there = "no file or folder here and no model on the Hugging Face Hub"
            raise UserError(
                coded("MODEL-001", f"{option} '{name}': {there}; check the spelling, or log in with `hf auth login` if it is private")
            ) from fault
        except hub_errors.HFValidationError as fault:
            there = "no file or folder here, and no model on the Hugging Face Hub can have this name"
            raise UserError(coded("MODEL-001", f"{option} '{name}': {there} ({first_line(fault).rstrip('.')}); check the path")) from fault
        except Exception as fault:  # the classes for a missing network are those of the HTTP library, which differs between versions
            why, remedy = _why_not(fault)
            cause = fault
    if folder := _cached(name, with_weights):
        if cause is not None:
            log.warning("%s '%s': %s; the copy in the Hub's cache is used", option, name, why)
        return folder
    there = "neither a file or folder here nor in the Hub's cache"
    raise UserError(coded("MODEL-003", f"{option} '{name}': {there}, and {why}; {remedy}")) from cause


def _download(name: str, with_weights: bool) -> Path:
    """The folder of the model in the Hub's cache, downloaded as far as it is missing; raises what huggingface_hub raises."""
    from huggingface_hub import snapshot_download

    # ask with a small request first: without a connection it fails in seconds, not minutes
    there = _files_on_hub(name)
    patterns = [*CONFIG_FILES, *(_weight_files(there) if with_weights else ())]
    return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=10))


def _cached(name: str, with_weights: bool) -> Path | None:
    """The folder of the model in the Hub's cache, without asking the Hub; None if something is missing."""
    from huggingface_hub import snapshot_download

    try:
        # only configs: of the weights the cache has one format, and huggingface_hub would miss the others
        folder = Path(snapshot_download(name, allow_patterns=list(CONFIG_FILES), local_files_only=True))
    except (OSError, ValueError):
        return None
    parts = [folder / part for part in PARTS if is_folder(folder / part)]
    return folder if not with_weights or all(map(_weights_of_part, parts or [folder])) else None


def _why_not(fault: Exception) -> tuple[str, str]:
    """Why a model did not arrive from the Hub, and the remedy."""
    cause = fault.__cause__ or fault  # huggingface_hub wraps what it cannot replace with its cache
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status is not None:
        ours = f"log in again (`hf auth login`), or {_LOCAL}" if status in (401, 403) else f"try again later, or {_LOCAL}"
        return f"the Hugging Face Hub refuses it ({first_line(cause)})", ours
    if isinstance(cause, OSError) and cause.errno in _DISK:
        from huggingface_hub import constants

        return f"the cache {constants.HF_HUB_CACHE} cannot be written ({cause.strerror})", "free some space there, or set HF_HOME"
    return f"the Hugging Face Hub cannot be reached ({named_line(cause)})", _LOCAL


def _files_on_hub(name: str) -> set[str]:
    from huggingface_hub import HfApi

    return {entry.rfilename for entry in HfApi().model_info(name, timeout=10).siblings or ()}


def _weight_files(there: Collection[str]) -> list[str]:
    """The one weights file to download for each part, of those that are `there`."""
    bare = _weight_names()
    best = [next((f"{part}/{name}" for name in bare if f"{part}/{name}" in there), None) for part in PARTS]
    chosen = [path for path in best if path] or [path for path in bare if path in there][:1]
    return chosen + [piece for path in chosen if is_index(Path(path)) for piece in _pieces(path, there)]


def _pieces(index: str, there: Iterable[str]) -> list[str]:
    """The files of a Hub repository that belong to an index: same folder, stem and format."""
    folder, _, name = index.rpartition("/")
    stem, suffix = name.split(".")[:2]
    head = f"{folder}/{stem}" if folder else stem
    return [path for path in there if path.startswith(head) and path.endswith("." + suffix) and SHARD.fullmatch(path.rpartition("/")[2])]
