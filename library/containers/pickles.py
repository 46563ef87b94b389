"""`.ckpt` files: the tensors of a pickle, checked for completeness first, without executing anything."""

from __future__ import annotations

import gc
import io
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from library.containers.archives import DAMAGED, Archive, open_archive
from library.containers.dtypes import WIDTHS
from library.containers.inert_pickle import MOST_BYTES, InertUnpickler
from library.containers.safetensors_header import LONGEST_NAME
from library.containers.stand_ins import StoredTensor
from library.parsing.signs import is_text
from library.paths.opening import open_file
from library.words import cut

if TYPE_CHECKING:
    from torch import Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first number of a file that torch.save wrote before torch 1.6
NO_TABLE = "has no table of weights"  # of an undamaged file with other content
_ALWAYS_SPREAD = 1 << 24  # bytes by which a tensor may exceed its storage by showing the same values repeatedly


class ContainsCode(ValueError):
    """The file contains code, which was not executed."""


def contains_code(name: str) -> ContainsCode:
    """The error for a file with code: `name` is the class or function in it, empty if unknown."""
    return ContainsCode(f"contains code{f' ({cut(name)})' if name and name.isprintable() else ''} and was not read")


@dataclass(frozen=True)
class Pickled:
    """Content of a `.ckpt`: its tensors by name, and where each storage's bytes start (None: a member of the zip file)."""

    path: Path
    tensors: dict[str, StoredTensor]
    starts: dict[str, int] | None
    prefix: str
    code: str  # its first class or function that is not plain data, which other readers may run; empty without one
    counts: dict[str, int] = field(default_factory=dict)  # "epoch" and "global_step" of the training, if the file has them

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors, each with separate memory, in the file's dtype. Raises ValueError for damage, OSError from the disk."""
        with open_archive(self.path) if self.starts is None else nullcontext() as archive, open_file(self.path) as file:
            for name in names:
                stored = self.tensors[name]
                begin, count = _span(stored)
                if archive is not None:
                    data = archive.read_part(f"{self.prefix}/data/{stored.storage.key}", begin, count) if count else b""
                else:
                    assert self.starts is not None
                    file.seek(self.starts[stored.storage.key] + begin)
                    data = file.read(count)
                if len(data) < count:
                    raise ValueError(DAMAGED)
                yield name, _numbers(bytearray(data), stored)


def read_pickled(path: Path) -> Pickled:
    """The tensors of a `.ckpt`, from its inner table if there is any. Raises ValueError with the reason if the file is invalid.

    A file that has code and no tensors raises its subclass ContainsCode; with tensors, its code is left out.
    """
    if zipfile.is_zipfile(path):
        with open_archive(path) as archive:
            prefix, content, unpickler = _load_zipped(archive)
            tensors = _tensors(content, unpickler.code)
            keys = {stored.storage.key: stored.dtype for stored in tensors.values()}
            sizes = {key: archive.size(f"{prefix}/data/{key}") for key in keys}
        _check_spans(tensors, sizes)
        return Pickled(path, tensors, None, prefix, unpickler.code, _counts(content))
    with open_file(path) as file:
        magic, unpickler = _load(file)
        if magic != LEGACY_MAGIC:
            raise contains_code(unpickler.code) if unpickler.code else ValueError("is not a checkpoint")
        _load(file), _load(file)  # protocol version, machine
        content, unpickler = _load(file)
        tensors = _tensors(content, unpickler.code)
        order, _ = _load(file)
        places = _legacy_places(file, order, unpickler.widths)
    _check_spans(tensors, {key: size for key, (_, size) in places.items()})
    return Pickled(path, tensors, {key: start for key, (start, _) in places.items()}, "", unpickler.code, _counts(content))


def read_content(path: Path) -> object:
    """The other content of a torch zip file's pickle, with tensors as descriptions. Raises ValueError like `read_pickled`."""
    with open_archive(path) as archive:
        return _load_zipped(archive)[1]


def check_harmless(path: Path) -> None:
    """Raise ValueError for anything but a torch zip file whose unpickling takes limited memory and time.

    This does not prevent execution of code; whoever unpickles the file has to. Only a pickle without a zip file raises ContainsCode here.
    """
    if not zipfile.is_zipfile(path):
        _refuse_code(path)
    with open_archive(path) as archive:
        if _load_zipped(archive)[2].odd:
            raise ValueError("has tables with keys that no real file has")


def _refuse_code(path: Path) -> None:
    """Raise ContainsCode if one of the pickles at the start of the file has code."""
    with open_file(path) as file:
        for _ in range(4):  # magic number, protocol version, machine, content; a plain pickle is the first
            try:
                code = _load(file)[1].code
            except ValueError:  # no more pickles, or damage, which is reported as what it is
                return
            if code:
                raise contains_code(code)


def _load_zipped(archive: Archive) -> tuple[str, Any, InertUnpickler]:
    """The folder of the members, the content of the pickle, and its unpickler."""
    member = next((name for name in archive.names if name.endswith("data.pkl")), None)
    if member is None:
        raise ValueError("is a zip file without weights")
    prefix = member.rpartition("/")[0]
    order = f"{prefix}/byteorder"
    if order in archive.names and archive.read(order, 100) != b"little":
        raise ValueError("was written on a big-endian machine")
    return (prefix, *_load(io.BytesIO(archive.read(member, MOST_BYTES))))


def _load(file: IO[bytes]) -> tuple[Any, InertUnpickler]:
    """The next object of the file, and its unpickler."""
    unpickler = InertUnpickler(file)
    collected = gc.isenabled()
    gc.disable()  # garbage collection would scan all objects of the pickle again and again
    try:
        return unpickler.load(), unpickler
    except Exception as fault:  # a damaged pickle can raise nearly any exception
        raise ValueError("is damaged, truncated or not a checkpoint") from fault
    finally:
        if collected:
            gc.enable()


def _tensors(content: object, code: str) -> dict[str, StoredTensor]:
    for inner in ("state_dict", "string_to_param"):  # of models, of embeddings
        if isinstance(content, dict) and isinstance(content.get(inner), dict):
            content = content[inner]
    table = content if isinstance(content, dict) else {}
    tensors = {name: value for name, value in table.items() if isinstance(name, str) and isinstance(value, StoredTensor)}
    if code and not tensors:
        raise contains_code(code)
    if not isinstance(content, dict):
        raise ValueError(NO_TABLE)
    if not all(is_text(name) and len(name) <= LONGEST_NAME for name in tensors):
        raise ValueError("has invalid names of tensors")
    return tensors


def _counts(content: object) -> dict[str, int]:
    counts = {name: content.get(name) for name in ("epoch", "global_step")} if isinstance(content, dict) else {}
    return {name: value for name, value in counts.items() if type(value) is int and 0 <= value < 1 << 63}


def _legacy_places(file: IO[bytes], order: object, widths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """(offset, bytes) of each storage. They are consecutive, each preceded by its number of elements."""
    places: dict[str, tuple[int, int]] = {}
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    if not isinstance(order, list | tuple):
        raise ValueError(DAMAGED)
    for key in order:
        file.seek(here)
        head = file.read(8)
        if len(head) < 8 or not isinstance(key, str | int) or str(key) not in widths:
            raise ValueError(DAMAGED)
        (count,) = struct.unpack("<q", head)
        begin, size = here + 8, count * widths[str(key)]
        if not 0 <= size <= end - begin:
            raise ValueError("is truncated")
        places[str(key)] = begin, size
        here = begin + size
    return places


def _check_spans(tensors: Mapping[str, StoredTensor], sizes: Mapping[str, int]) -> None:
    """Raise ValueError if a tensor has values outside its storage, or far more values than the storage."""
    for stored in tensors.values():
        size = sizes.get(stored.storage.key)
        begin, count = _span(stored)
        if size is None or begin + count > size:
            raise ValueError(DAMAGED)
        if math.prod(stored.shape) * WIDTHS[stored.dtype] > max(size, _ALWAYS_SPREAD):
            raise ValueError("has a tensor of far more numbers than the file")


def _span(stored: StoredTensor) -> tuple[int, int]:
    """Offset of a tensor's values in its storage, and the number of bytes they span."""
    count = 0
    if all(stored.shape):
        count = 1 + sum((size - 1) * step for size, step in zip(stored.shape, stored.stride, strict=True))
    width = WIDTHS[stored.dtype]
    return (stored.offset * width, count * width) if count else (0, 0)


def _numbers(data: bytearray, stored: StoredTensor) -> Tensor:
    """The tensor with the values in `data`, which starts with its first value and ends with its last."""
    import torch

    from library.containers.dtypes import torch_dtype

    dtype = torch_dtype(stored.dtype)
    if not data:
        return torch.empty(stored.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).as_strided(stored.shape, stored.stride).contiguous()
