"""`.ckpt` files read with nothing in them executed: every class and function a pickle names becomes an inert stand-in."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from library.containers.dtypes import WIDTHS
from library.paths.opening import open_file

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
# Of kinds that no weights have, but what lies beside them may: the bytes of an element, to get past them in a file of the old form.
_OTHER_STORAGES = {
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt32Storage": 4,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "UntypedStorage": 1,
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first number of a file that torch.save wrote before torch 1.6


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file."""

    dtype: str
    key: str


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle describes it; its numbers are read later."""

    storage: Storage
    offset: int  # in elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype


class Inert:
    """Stands in for an object of any other class: takes whatever the pickle does to it and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return object.__new__(cls)

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


class _StorageKind(str):
    """The dtype behind a name such as `torch.HalfStorage`; of kinds that are no weights' the name itself."""


def _tensor(storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *rest: object) -> StoredTensor | Inert:
    if not isinstance(storage, Storage) or storage.dtype in _OTHER_STORAGES:
        return Inert()
    return StoredTensor(storage, int(offset), tuple(shape), tuple(stride))


def _parameter(data: object, *rest: object) -> object:
    return data


def _from_type(function: Callable[..., object], kind: object, arguments: tuple[object, ...], state: object) -> object:
    return function(*arguments)


class _Size(tuple[int, ...]):
    """torch.Size without torch."""

    def __new__(cls, values: Iterable[int] = ()) -> _Size:
        return tuple.__new__(cls, values)


class _Parameters(dict[str, Any]):
    """torch's ParameterDict, in which the first embeddings of Textual Inversion were saved, as the plain table that it is."""

    def __setstate__(self, state: object) -> None:
        kept = state.get("_parameters") if isinstance(state, dict) else None
        self.update(kept if isinstance(kept, dict) else {})


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch.nn.modules.container", "ParameterDict"): _Parameters,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _Size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing and calls nothing but what stands in this file.

    `widths` names every storage that was met, those of optimizers and other company included: the bytes of its elements by its key.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.widths: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in _STORAGE_MODULES and (name in STORAGES or name in _OTHER_STORAGES):
            return _StorageKind(STORAGES.get(name, name))
        return _ALLOWED.get((module, name), Inert)

    def persistent_load(self, pid: object) -> Storage | Inert | type[Inert]:
        if isinstance(pid, tuple) and len(pid) >= 3 and pid[0] == "storage" and isinstance(pid[1], _StorageKind):
            kind, key = str(pid[1]), str(pid[2])
            self.widths[key] = _OTHER_STORAGES.get(kind) or WIDTHS[kind]
            return Storage(kind, key)
        return Inert if isinstance(pid, tuple) and pid[:1] == ("module",) else Inert()  # the old form tells a layer's class so


@dataclass(frozen=True)
class Pickled:
    """What a `.ckpt` holds: its tensors by name, and where each storage's bytes begin (None: a member of the zip file)."""

    path: Path
    tensors: dict[str, StoredTensor]
    starts: dict[str, int] | None
    prefix: str
    counts: dict[str, int] = field(default_factory=dict)  # "epoch" and "global_step" of the training, where the file has them

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors, each in memory of its own, in the file's dtype."""
        if self.starts is None:
            with zipfile.ZipFile(self.path) as archive:
                for name in names:
                    stored = self.tensors[name]
                    with archive.open(f"{self.prefix}/data/{stored.storage.key}") as file:
                        yield name, _numbers(file, stored)
        else:
            with open_file(self.path) as file:
                for name in names:
                    stored = self.tensors[name]
                    file.seek(self.starts[stored.storage.key])
                    yield name, _numbers(file, stored)


def read_pickled(path: Path) -> Pickled:
    """The tensors of a `.ckpt`, those of its inner table where it has one; raises ValueError saying what is wrong with the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if member is None:
                raise ValueError("is a zip file without weights")
            prefix = member.rpartition("/")[0]
            order = f"{prefix}/byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError("was written on a big-endian machine")
            content, _ = _load(io.BytesIO(archive.read(member)))
        return Pickled(path, _tensors(content), None, prefix, _counts(content))
    with open_file(path) as file:
        if _load(file)[0] != LEGACY_MAGIC:
            raise ValueError("is no checkpoint")
        _load(file), _load(file)  # protocol version, machine
        content, widths = _load(file)
        order, _ = _load(file)
        starts = _legacy_starts(file, order, widths)
    return Pickled(path, _tensors(content), starts, "", _counts(content))


def _load(file: IO[bytes]) -> tuple[Any, dict[str, int]]:
    """The next object of the file, and the storages that it names: the bytes of each one's elements."""
    unpickler = InertUnpickler(file)
    try:
        return unpickler.load(), unpickler.widths
    except Exception as fault:  # a broken pickle can raise nearly anything
        raise ValueError("is damaged, cut short or no checkpoint") from fault


def _tensors(content: object) -> dict[str, StoredTensor]:
    for inner in ("state_dict", "string_to_param"):  # of models, of embeddings
        if isinstance(content, dict) and isinstance(content.get(inner), dict):
            content = content[inner]
    if not isinstance(content, dict):
        raise ValueError("holds no table of weights")
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, StoredTensor)}


def _counts(content: object) -> dict[str, int]:
    found = {name: content.get(name) for name in ("epoch", "global_step")} if isinstance(content, dict) else {}
    return {name: value for name, value in found.items() if type(value) is int}


def _legacy_starts(file: IO[bytes], order: Iterable[object], widths: Mapping[str, int]) -> dict[str, int]:
    """Where the bytes of each storage begin: they follow one another, each behind its number of elements."""
    starts: dict[str, int] = {}
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    for key in order:
        head = file.read(8)
        if len(head) < 8 or str(key) not in widths:
            raise ValueError("is damaged or cut short")
        (count,) = struct.unpack("<q", head)
        starts[str(key)] = file.tell()
        if file.seek(count * widths[str(key)], io.SEEK_CUR) > end:
            raise ValueError("is cut short")
    return starts


def _numbers(file: IO[bytes], stored: StoredTensor) -> Tensor:
    """The tensor's numbers from `file`, which stands where its storage begins."""
    import torch

    from library.containers.dtypes import torch_dtype

    dtype = torch_dtype(stored.dtype)
    count = 0
    if all(stored.shape):
        count = 1 + sum((size - 1) * step for size, step in zip(stored.shape, stored.stride, strict=True))
    if count == 0:
        return torch.empty(stored.shape, dtype=dtype)
    file.seek(stored.offset * dtype.itemsize, io.SEEK_CUR)
    data = bytearray(file.read(count * dtype.itemsize))
    if len(data) < count * dtype.itemsize:
        raise ValueError("is cut short")
    return torch.frombuffer(data, dtype=dtype).as_strided(stored.shape, stored.stride).contiguous()
