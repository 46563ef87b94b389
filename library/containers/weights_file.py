"""Files of named tensors: reads names and shapes without the values, reads values one at a time, and writes them one at a time."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from library.containers.dtypes import TORCH_NAMES, WIDTHS, torch_dtype
from library.containers.pickles import ContainsCode, Pickled, read_pickled
from library.containers.safetensors_header import MAX_HEADER, HeaderFault, read_header
from library.containers.uncached import Uncached
from library.containers.weights_faults import AGAIN, broken_off, code_refusal, not_opened, not_understood
from library.errors import UserError, coded, first_line
from library.parsing.bounds import TooMuch
from library.parsing.json_text import parse_json
from library.parsing.signs import is_text
from library.paths.look import is_file
from library.paths.opening import open_file, read_text, regular

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPEC_KEY = "modelspec.sai_model_spec"  # with this key in its metadata, a file has the hash of its tensors in the next key
HASH_KEY = "modelspec.hash_sha256"
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<rest>\..+)")  # model-00001-of-00002.safetensors
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"\xff\x0a")  # PNG, JPEG, bare JPEG XL


@dataclass(frozen=True)
class TensorInfo:
    """Dtype and shape of a tensor in a file. Dtypes have safetensors names: F32, F16, BF16, I64, …"""

    dtype: str
    shape: tuple[int, ...]


class WeightsFile(Protocol):
    """A file of named tensors."""

    @property
    def path(self) -> Path:
        """Path of the file."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Its tensors, by name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata in its header."""

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, in the file's dtype."""


@dataclass(frozen=True)
class SafetensorsFile:
    """A `.safetensors` file."""

    path: Path
    infos: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    source: str  # how messages name it

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one. They are views of the mapped file, so copy what outlives it.

        Raises UserError if the file has been replaced since it was opened.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                for name in names:
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as fault:
            raise UserError(coded("FILE-001", f"{self.source}: cannot be read ({first_line(fault)}); {AGAIN}")) from fault


@dataclass(frozen=True)
class PickleFile:
    """A `.ckpt`, `.pt` or `.bin` file, read without executing anything in it."""

    path: Path
    infos: Mapping[str, TensorInfo]
    content: Pickled
    source: str  # how messages name it
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, each with separate memory. Raises UserError if their bytes are damaged."""
        try:
            yield from self.content.read(names)
        except (ValueError, OSError) as fault:
            raise UserError(broken_off(self.source, fault)) from fault


@dataclass(frozen=True)
class ShardedFile:
    """Several files as one, with an index of the tensors in each, as in Diffusers folders with large models."""

    path: Path  # path of the index
    infos: Mapping[str, TensorInfo]
    files: Mapping[str, WeightsFile]  # by tensor name
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, from their files."""
        for name in names:
            yield from self.files[name].read([name])


def open_weights(path: Path, option: str) -> WeightsFile:
    """Open a file according to its content, no matter its extension. Raises UserError that names `option` if it cannot be used."""
    path = Path(path)
    if is_index(path):
        return _open_shards(path, option)
    try:
        size = regular(path).stat().st_size
        with open_file(path) as file:
            head = file.read(16)
    except OSError as fault:
        raise UserError(not_opened(path, option, fault)) from fault
    if size == 0:
        raise UserError(coded("FILE-002", f"{option} {path}: is an empty file; download it again"))
    if head.startswith(b"version https://"):
        raise UserError(
            coded("FILE-003", f"{option} {path}: is a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself")
        )
    if _is_image(head):
        raise UserError(
            coded(
                "FILE-004",
                f"{option} {path}: is an image, not weights (only --weights of Textual Inversion reads an embedding inside one)",
            )
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            coded("FILE-004", f"{option} {path}: is a web page, not weights; download the file itself (its `resolve` or download link)")
        )
    if _is_safetensors(path, size, head):
        return _open_safetensors(path, option)
    try:
        content = read_pickled(path)
    except ContainsCode as fault:
        raise UserError(code_refusal(f"{option} {path}", fault)) from fault
    except (ValueError, OSError) as fault:
        raise UserError(not_understood(path, option, fault)) from fault
    infos = {name: TensorInfo(stored.dtype, stored.shape) for name, stored in content.tensors.items()}
    return PickleFile(path, infos, content, f"{option} {path}", {name: str(count) for name, count in content.counts.items()})


def _is_safetensors(path: Path, size: int, head: bytes) -> bool:
    """Whether the content starts like a header of plausible length (of any length if the extension is .safetensors)."""
    plausible = path.suffix.lower() == ".safetensors" or struct.unpack("<Q", head[:8].ljust(8))[0] < MAX_HEADER
    return plausible and size > 9 and head[8:9] == b"{"


def _open_safetensors(path: Path, option: str) -> SafetensorsFile:
    try:
        header = read_header(path)
    except OSError as fault:
        raise UserError(not_opened(path, option, fault)) from fault
    except HeaderFault as fault:
        raise UserError(coded("FILE-005", f"{option} {path}: {fault}; {AGAIN}")) from fault
    infos = {name: TensorInfo(dtype, shape) for name, (dtype, shape) in header.tensors.items()}
    return SafetensorsFile(path, infos, header.metadata, f"{option} {path}")


def is_image_file(path: Path) -> bool:
    """Whether the content starts like a PNG, WebP, JPEG, AVIF or JPEG XL; False for an unreadable file."""
    try:
        with open_file(path) as file:
            return _is_image(file.read(16))
    except OSError:
        return False


def _is_image(head: bytes) -> bool:
    return head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:12] in (b"ftypavif", b"JXL \r\n\x87\n")


def is_index(path: Path) -> bool:
    """Whether the file name is that of an index: `….safetensors.index.json`, `….bin.index.fp16.json`."""
    return path.name.endswith(".json") and ".index." in path.name


def _open_shards(index: Path, option: str) -> ShardedFile:
    try:
        entries = parse_json(read_text(index))["weight_map"].items()
    except OSError as fault:
        raise UserError(not_opened(index, option, fault)) from fault
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{option} {index}: {fault}")) from fault
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(coded("MODEL-016", f"{option} {index}: is not an index of weights; download it again")) from fault
    names = dict(entries)
    if odd := [file for file in names.values() if not _is_plain_name(file)]:
        raise UserError(
            coded("MODEL-016", f"{option} {index}: says that tensors are in {odd[0]!r}, which is not a file next to it; download it again")
        )
    files = sorted(set(names.values()))
    if missing := [file for file in files if not is_file(index.parent / file)]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(coded("MODEL-016", f"{option} {index}: {missing[0]}{more}, which it names, is missing; download it"))
    opened = {file: open_weights(index.parent / file, option) for file in files}
    if lost := [tensor for tensor, file in names.items() if tensor not in opened[file].infos]:
        raise UserError(coded("MODEL-016", f"{option} {index}: {lost[0]} is not in {names[lost[0]]}, as it says; download both again"))
    infos = {tensor: opened[file].infos[tensor] for tensor, file in names.items()}
    return ShardedFile(index, infos, {tensor: opened[file] for tensor, file in names.items()})


def _is_plain_name(file: object) -> bool:
    """Whether the value names a file in the same folder that is not an index."""
    if not isinstance(file, str) or not is_text(file) or file in (".", ".."):
        return False
    return re.fullmatch(r"[^/\\:\0]+", file) is not None and not is_index(Path(file))


def dtype_name(dtype: torch.dtype) -> str:
    """The safetensors name of a torch dtype."""
    return {"torch." + theirs: ours for ours, theirs in TORCH_NAMES.items()}[str(dtype)]


def write_safetensors(
    path: Path, infos: Mapping[str, TensorInfo], tensor: Callable[[str], Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a `.safetensors` file tensor by tensor, so that only one is in memory; `tensor(name)` must match its info.

    Wide dtypes come first, the order of safetensors itself, which keeps every tensor aligned. Metadata of the Model Metadata Standard
    (SPEC_KEY) gets its hash, the SHA-256 of everything after the header.
    """
    import torch

    metadata = dict(metadata or {})
    digest = hashlib.sha256()
    unknown = _hash_value(digest.hexdigest())  # a placeholder as long as the real hash, which replaces it at the end
    if hashed := SPEC_KEY in metadata:
        metadata[HASH_KEY] = unknown

    names = sorted(infos, key=lambda name: (-WIDTHS[infos[name].dtype], name))
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in names:
        info = infos[name]
        begin, end = end, end + _elements(info.shape) * WIDTHS[info.dtype]
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as file:
        out = Uncached(file)
        out.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            value = tensor(name).detach().to("cpu", torch_dtype(infos[name].dtype)).contiguous()
            assert tuple(value.shape) == tuple(infos[name].shape), f"{name}: {tuple(value.shape)} is not {infos[name].shape}"
            if value.numel():
                content = memoryview(value.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # numpy has the buffer protocol
                out.write(content)
                if hashed:
                    digest.update(content)
        if hashed:
            file.seek(8 + text.index(unknown.encode("ascii")))
            file.write(_hash_value(digest.hexdigest()).encode("ascii"))


def _hash_value(digest: str) -> str:
    return f"0x{digest}"


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
