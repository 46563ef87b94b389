"""Files of named tensors: what is in them without reading the numbers, the numbers one at a time, and writing them so."""

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
from library.containers.pickles import Pickled, read_pickled
from library.errors import UserError
from library.paths.look import is_file
from library.paths.opening import open_file, read_text, regular

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SPEC_KEY = "modelspec.sai_model_spec"  # a file with this key in its metadata tells the hash of its tensors under the next one
HASH_KEY = "modelspec.hash_sha256"
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<rest>\..+)")  # model-00001-of-00002.safetensors
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"\xff\x0a")  # PNG, JPEG, bare JPEG XL
MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class TensorInfo:
    """Kind and shape of a tensor in a file; dtypes are called as in safetensors: F32, F16, BF16, I64, …"""

    dtype: str
    shape: tuple[int, ...]


class WeightsFile(Protocol):
    """A file of named tensors."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Its tensors, by name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its header says of it."""

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, in the file's dtype."""


@dataclass(frozen=True)
class SafetensorsFile:
    """A `.safetensors` file."""

    path: Path
    infos: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one; they are views of the mapped file, so copy what is kept."""
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)


@dataclass(frozen=True)
class PickleFile:
    """A `.ckpt`, `.pt` or `.bin` file, read without executing anything in it."""

    path: Path
    infos: Mapping[str, TensorInfo]
    content: Pickled
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, each in memory of its own."""
        return self.content.read(names)


@dataclass(frozen=True)
class ShardedFile:
    """Several files as one, with an index that says which tensor lies in which, as large parts of Diffusers folders are saved."""

    path: Path  # of the index
    infos: Mapping[str, TensorInfo]
    files: Mapping[str, WeightsFile]  # by tensor
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors one by one, as their files give them."""
        for name in names:
            yield from self.files[name].read([name])


def open_weights(path: Path, option: str) -> WeightsFile:
    """Look into a file by its content, whatever its name ends with; raises UserError naming `option` for one that cannot be used."""
    path = Path(path)
    if is_index(path):
        return _open_shards(path, option)
    try:
        size = regular(path).stat().st_size
        with open_file(path) as file:
            head = file.read(16)
    except OSError as fault:
        raise UserError(f"{option} {path}: cannot be read ({fault.strerror})") from fault
    if size == 0:
        raise UserError(f"{option} {path}: is an empty file; download it again")
    if head.startswith(b"version https://"):
        raise UserError(f"{option} {path}: is a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself")
    if _is_image(head):
        raise UserError(
            f"{option} {path}: is an image, not weights (an embedding inside one is read by Textual Inversion's --weights alone)"
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(f"{option} {path}: is a web page, not weights; download the file itself (its `resolve` or download link)")
    if size > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < MAX_HEADER:
        return _open_safetensors(path, size, option)
    try:
        content = read_pickled(path)
    except (ValueError, OSError) as fault:
        reason = str(fault) if isinstance(fault, ValueError) else "is damaged or cut short"
        remedy = "give a file of named tensors" if reason.startswith("holds") else "download or copy it again"
        raise UserError(f"{option} {path}: {reason}; {remedy}") from fault
    infos = {name: TensorInfo(stored.dtype, stored.shape) for name, stored in content.tensors.items()}
    return PickleFile(path, infos, content, {name: str(count) for name, count in content.counts.items()})


def _open_safetensors(path: Path, size: int, option: str) -> SafetensorsFile:
    with open_file(path) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(length)
    cut = f"{option} {path}: is cut short: it has {size:,} bytes, {{}}; download or copy it again"
    if len(header) < length:
        raise UserError(cut.format(f"its header alone says {length + 8:,}"))
    try:
        entries = json.loads(header)
        metadata = entries.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        infos = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise UserError(f"{option} {path}: its header is damaged; download or copy it again") from fault
    if 8 + length + end > size:
        raise UserError(cut.format(f"its header says {8 + length + end:,}"))
    return SafetensorsFile(path, infos, metadata)


def is_image_file(path: Path) -> bool:
    """Whether the content begins as a PNG, WebP, JPEG, AVIF or JPEG XL does; no for what cannot be read."""
    try:
        with open_file(path) as file:
            return _is_image(file.read(16))
    except OSError:
        return False


def _is_image(head: bytes) -> bool:
    return head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:12] in (b"ftypavif", b"JXL \r\n\x87\n")


def is_index(path: Path) -> bool:
    """Whether the name is that of an index of several files: `….safetensors.index.json`, `….bin.index.fp16.json`."""
    return path.name.endswith(".json") and ".index." in path.name


def _open_shards(index: Path, option: str) -> ShardedFile:
    try:
        entries = json.loads(read_text(index))["weight_map"].items()
    except OSError as fault:
        raise UserError(f"{option} {index}: cannot be read ({fault.strerror})") from fault
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise UserError(f"{option} {index}: is no index of weights; download it again") from fault
    names = {str(tensor): str(file) for tensor, file in entries}
    files = sorted(set(names.values()))
    if missing := [file for file in files if not is_file(index.parent / file)]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(f"{option} {index}: {missing[0]}{more}, which it names, is not beside it; download what is missing")
    opened = {file: open_weights(index.parent / file, option) for file in files}
    if lost := [tensor for tensor, file in names.items() if tensor not in opened[file].infos]:
        raise UserError(f"{option} {index}: {lost[0]} is not in {names[lost[0]]}, as it says; download both again")
    infos = {tensor: opened[file].infos[tensor] for tensor, file in names.items()}
    return ShardedFile(index, infos, {tensor: opened[file] for tensor, file in names.items()})


def dtype_name(dtype: torch.dtype) -> str:
    """safetensors' name of a torch dtype."""
    return {"torch." + theirs: ours for ours, theirs in TORCH_NAMES.items()}[str(dtype)]


def write_safetensors(
    path: Path, infos: Mapping[str, TensorInfo], tensor: Callable[[str], Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a `.safetensors` file tensor by tensor, so that only one of them is in memory; `tensor(name)` must match its info.

    Wide dtypes come first, as safetensors itself orders them, which keeps every tensor aligned. Metadata of the Model
    Metadata Standard (SPEC_KEY) gets its hash, the SHA-256 of all that follows the header.
    """
    import torch

    metadata = dict(metadata or {})
    digest = hashlib.sha256()
    unknown = _hash_value(digest.hexdigest())  # as long as the right one, which stands in its place in the end
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
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            value = tensor(name).detach().to("cpu", torch_dtype(infos[name].dtype)).contiguous()
            assert tuple(value.shape) == tuple(infos[name].shape), f"{name}: {tuple(value.shape)} is not {infos[name].shape}"
            if value.numel():
                content = memoryview(value.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # numpy has the buffer protocol
                file.write(content)
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
