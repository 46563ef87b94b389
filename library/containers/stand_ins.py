"""Replacements for the classes and functions in a pickle: tables, sizes, tensor descriptions, and Inert for all others."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from library.containers.safetensors_header import LONGEST_AXIS, check_shape

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
# Kinds of storages that weights never use, but other content may: bytes per element, needed to skip them in the old format.
OTHER_STORAGES = {
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt32Storage": 4,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "UntypedStorage": 1,
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_LONGEST_KEY = 16  # number of elements of a tuple used as a key
_PLAIN_KEYS = (str, bytes, int, float, type(None))
# Classes and functions of numbers, tables and texts, also of kinds that are not read here; all others are code.
_DATA = re.compile(
    r"torch\.(device|Size|b?float\d\w*|u?int\d+|complex\d+|bool|bits\w+|qu?int\w+)|torch(\.cuda|\.sparse|\.storage)*\.\w*(Storage|Tensor)"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout"
    r"|torch\.nn\.(parameter\.Parameter|modules\.container\.ParameterDict)|numpy\.(dtype|ndarray|_?core\.multiarray\.(scalar|_reconstruct))"
    r"|collections\.(Counter|OrderedDict|defaultdict)|_codecs\.encode|copy_?reg\._reconstructor"
    r"|(builtins|__builtin__)\.(bool|bytearray|bytes|complex|dict|float|frozenset|int|list|long|object|set|slice|str|tuple|unicode)"
)


@dataclass(frozen=True)
class Storage:
    """A block of values in the file."""

    dtype: str
    key: str


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the pickle describes it; its values are read later."""

    storage: Storage
    offset: int  # in elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype


class Inert:
    """Replaces any other class, and its instances."""


def is_key(key: object) -> bool:
    """Whether hashing the value is fast: a nested value can be so deep or repetitive that hashing it never ends."""
    if isinstance(key, tuple):
        return len(key) <= _LONGEST_KEY and all(isinstance(part, _PLAIN_KEYS) for part in key)
    return isinstance(key, (*_PLAIN_KEYS, type, Inert))


def is_data(module: str, name: str) -> bool:
    """Whether a class or function of a pickle is that of plain data, and not code."""
    return _DATA.fullmatch(f"{module}.{name}") is not None


class StorageKind(str):
    """The dtype of a name such as `torch.HalfStorage`; for kinds not used for weights, the name itself."""


class _Size(tuple[int, ...]):
    """torch.Size without torch."""

    def __new__(cls, values: object = ()) -> _Size:
        return tuple.__new__(cls, check_shape(values))


class _Ordered(OrderedDict[Any, Any]):
    """An ordered table; Python 2 pickled it as pairs."""

    def __init__(self, pairs: Iterable[object] = ()) -> None:
        super().__init__()
        for pair in pairs:
            if isinstance(pair, list | tuple) and len(pair) == 2 and is_key(pair[0]):
                self[pair[0]] = pair[1]


class Parameters(dict[str, Any]):
    """torch's ParameterDict as a plain table; early embeddings of Textual Inversion were saved in it."""

    def take(self, state: object) -> None:
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if isinstance(parameters, dict) and len(parameters) <= _LONGEST_KEY:
            self.update(parameters)


def _tensor(storage: object, offset: object, shape: object, stride: object, *rest: object) -> StoredTensor | Inert:
    if not isinstance(storage, Storage) or storage.dtype in OTHER_STORAGES:
        return Inert()
    shape, stride = check_shape(shape), check_shape(stride)
    if type(offset) is not int or not 0 <= offset < LONGEST_AXIS or len(shape) != len(stride):
        raise ValueError("is not a tensor")
    return StoredTensor(storage, offset, shape, stride)


def _parameter(data: object, *rest: object) -> object:
    return data


def _from_type(function: Callable[..., object], kind: object, arguments: tuple[object, ...], state: object) -> object:
    return function(*arguments) if function is _tensor or function is _parameter else Inert()


ALLOWED: dict[tuple[str, str], Any] = {
    ("torch.nn.modules.container", "ParameterDict"): Parameters,
    ("collections", "OrderedDict"): _Ordered,
    ("torch", "Size"): _Size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}
