"""Reads pickles without executing anything in them, within limits: inert objects replace classes and functions.

Invalid content raises ValueError. Python's C unpickler trusts the numbers in a pickle (141 bytes can request 16 GiB) and hashes any key (a
deeply nested tuple can crash the process). The Python version, which this class extends, keeps its memo in tables; everything else that can
grow is limited here.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from types import FunctionType
from typing import IO, Any

from library.containers.dtypes import WIDTHS
from library.containers.stand_ins import (
    ALLOWED,
    OTHER_STORAGES,
    STORAGE_MODULES,
    STORAGES,
    Inert,
    Parameters,
    Storage,
    StorageKind,
    is_data,
    is_key,
)

MOST_BYTES = 1 << 24  # of one pickle; a full model with its optimizer has about 1 MiB
MOST_READS = 800_000  # read calls per pickle; such a model has about 200,000
_MOST_COPIED = 2_000_000  # elements of lists and tables that a pickle may have copied
_LONGEST_LINE = 1 << 16


class _Source:
    """The bytes of a file for an unpickler; limits their number and the number of reads to those of real files."""

    def __init__(self, file: IO[bytes]) -> None:
        here = file.tell()
        self._left = min(file.seek(0, io.SEEK_END) - here, MOST_BYTES)
        self._reads = 0
        self._file = file
        file.seek(here)

    def read(self, count: int) -> bytes:
        self._reads += 1
        self._left -= count
        if self._left < 0 or count < 0 or self._reads > MOST_READS:
            raise ValueError("is truncated or not a pickle")
        return self._file.read(count)

    def readline(self) -> bytes:
        self._reads += 1
        line = self._file.readline(_LONGEST_LINE)
        self._left -= len(line)
        if self._left < 0 or self._reads > MOST_READS or not line.endswith(b"\n"):
            raise ValueError("is truncated or not a pickle")
        return line


class InertUnpickler(pickle._Unpickler):
    """An unpickler that imports and calls nothing but what this file allows. `load` may raise nearly any exception.

    `widths` lists every storage in the pickle, including those of optimizers: bytes per element by key. `odd` is True if something was left
    out because it is not safe as a key or to copy. `code` is the first class or function in it that is no plain data, such as os.system;
    empty without one.
    """

    # inherited attributes that the parent does not declare
    stack: list[object]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[object]]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(_Source(file))
        self.widths: dict[str, int] = {}
        self.odd = False
        self.code = ""
        self._copied = 0

    def find_class(self, module: str, name: str) -> Any:
        if module in STORAGE_MODULES and (name in STORAGES or name in OTHER_STORAGES):
            return StorageKind(STORAGES.get(name, name))
        if not self.code and not is_data(module, name):
            self.code = f"{module}.{name}"
        return ALLOWED.get((module, name), Inert)

    def persistent_load(self, pid: object) -> Storage | Inert | type[Inert]:
        what = pid[0] if isinstance(pid, tuple) and pid and isinstance(pid[0], str) else None
        if what == "storage" and isinstance(pid, tuple) and len(pid) >= 3 and isinstance(pid[1], StorageKind):
            if not isinstance(pid[2], str | int):
                raise ValueError("is not a storage")
            kind, key = str(pid[1]), str(pid[2])
            self.widths[key] = OTHER_STORAGES.get(kind) or WIDTHS[kind]
            return Storage(kind, key)
        return Inert if what == "module" else Inert()  # the old format marks the class of a layer this way

    def call(self, maker: object, arguments: object) -> object:
        """The result of calling `maker`."""
        if maker is Inert or isinstance(maker, Inert):
            return Inert()
        if not isinstance(maker, type | FunctionType) or not isinstance(arguments, tuple | list):
            raise ValueError("calls something that cannot be called")
        self._copied += len(arguments) + sum(len(argument) for argument in arguments if isinstance(argument, list | tuple | dict))
        if self._copied > _MOST_COPIED:
            raise ValueError("copies more than a real file does")
        return maker(*arguments)

    def put(self, table: object, items: list[object]) -> None:
        """Insert `items`, alternating keys and values, into a table."""
        if isinstance(table, Inert):
            return
        if not isinstance(table, dict) or len(items) % 2:
            raise ValueError("is not a table")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if is_key(key):
                table[key] = value
            else:
                self.odd = True

    def extend(self, target: object, items: list[object]) -> None:
        """Append `items` to a list."""
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise ValueError("is not a list")


def _frame(reader: InertUnpickler) -> None:
    reader.read(8)  # frames do not matter when reading piece by piece


def _bytearray(reader: InertUnpickler) -> None:
    (length,) = struct.unpack("<Q", reader.read(8))
    reader.append(reader.read(length))


def _reduce(reader: InertUnpickler) -> None:
    arguments = reader.stack.pop()
    reader.stack[-1] = reader.call(reader.stack[-1], arguments)


def _new(reader: InertUnpickler) -> None:
    arguments, maker = reader.stack.pop(), reader.stack.pop()
    reader.append(reader.call(maker, arguments))


def _new_with_names(reader: InertUnpickler) -> None:
    reader.stack.pop()
    _new(reader)


def _instance(reader: InertUnpickler) -> None:
    module, name = (reader.readline()[:-1].decode("ascii") for _ in range(2))
    reader.append(reader.call(reader.find_class(module, name), reader.pop_mark()))


def _object(reader: InertUnpickler) -> None:
    maker, *arguments = reader.pop_mark()
    reader.append(reader.call(maker, arguments))


def _build(reader: InertUnpickler) -> None:
    state, built = reader.stack.pop(), reader.stack[-1]
    if isinstance(built, Parameters):
        built.take(state)


def _append(reader: InertUnpickler) -> None:
    item = reader.stack.pop()
    reader.extend(reader.stack[-1], [item])


def _appends(reader: InertUnpickler) -> None:
    items = reader.pop_mark()
    reader.extend(reader.stack[-1], items)


def _set_item(reader: InertUnpickler) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.put(reader.stack[-1], [key, value])


def _set_items(reader: InertUnpickler) -> None:
    items = reader.pop_mark()
    reader.put(reader.stack[-1], items)


def _table(reader: InertUnpickler) -> None:
    items = reader.pop_mark()
    reader.append({})
    reader.put(reader.stack[-1], items)


def _empty_set(reader: InertUnpickler) -> None:
    reader.append(Inert())


def _add_items(reader: InertUnpickler) -> None:
    reader.pop_mark()


def _frozen_set(reader: InertUnpickler) -> None:
    reader.pop_mark()
    reader.append(Inert())


def _refuse(reader: InertUnpickler) -> None:
    raise ValueError("refers to something outside the file")


_OWN_WAYS: dict[bytes, Callable[[InertUnpickler], None]] = {
    pickle.FRAME: _frame,
    pickle.BYTEARRAY8: _bytearray,
    pickle.REDUCE: _reduce,
    pickle.NEWOBJ: _new,
    pickle.NEWOBJ_EX: _new_with_names,
    pickle.INST: _instance,
    pickle.OBJ: _object,
    pickle.BUILD: _build,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _set_items,
    pickle.DICT: _table,
    pickle.EMPTY_SET: _empty_set,
    pickle.ADDITEMS: _add_items,
    pickle.FROZENSET: _frozen_set,
    pickle.EXT1: _refuse,
    pickle.EXT2: _refuse,
    pickle.EXT4: _refuse,
    pickle.NEXT_BUFFER: _refuse,
    pickle.READONLY_BUFFER: _refuse,
}
InertUnpickler.dispatch = {**pickle._Unpickler.dispatch, **{code[0]: way for code, way in _OWN_WAYS.items()}}  # type: ignore[misc]  # typeshed hides that the unpickler is a class of Python
