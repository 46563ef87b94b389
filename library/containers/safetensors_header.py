"""Reads and validates the header of a `.safetensors` file."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from library.containers.dtypes import WIDTHS
from library.parsing.json_text import parse_json
from library.parsing.signs import is_text
from library.paths.opening import open_file, regular
from library.words import counted

MAX_HEADER = 100_000_000  # bytes; safetensors' own limit
METADATA = "__metadata__"
MOST_PIECES = 3_000_000  # of a header: a full model has 20,000, training metadata on a million tags a million
LONGEST_NAME = 1000  # characters of a tensor's name; models have up to 150
MOST_AXES, LONGEST_AXIS = 32, 1 << 40  # of a tensor; torch limits the total to 2⁶³
_DAMAGED = "its header is damaged"


class HeaderFault(ValueError):
    """What is wrong with a header, for a message that names the file first."""


@dataclass(frozen=True)
class Header:
    """Dtype and shape of each tensor by name, and the file's metadata."""

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read the header. Raises HeaderFault if header and file contradict each other or safetensors would refuse it, OSError from the disk.

    The tensors must fill the file from the header to its end without gaps, each with the bytes that its dtype and shape need.
    """
    size = regular(path).stat().st_size
    with open_file(path) as file:
        head = file.read(8)
        if len(head) < 8:
            raise HeaderFault(f"is truncated: it has {counted(size, 'byte')}, less than a header")
        (length,) = struct.unpack("<Q", head)
        if length + 8 > size:
            raise HeaderFault(f"is truncated: it has {size:,} bytes, its header alone needs {length + 8:,}")
        if length > MAX_HEADER:
            raise HeaderFault(f"its header claims {length:,} bytes, more than possible")
        text = file.read(length)
    table = _table(text)
    metadata = _metadata(table.pop(METADATA, None))
    places = [(*_place(name, entry), name) for name, entry in table.items()]
    _check_places(places, size - 8 - length, size)
    return Header({name: (dtype, shape) for _, _, dtype, shape, name in places}, metadata)


def check_shape(shape: object) -> tuple[int, ...]:
    """The shape of a tensor from a file. Raises ValueError if it is invalid."""
    if not isinstance(shape, list | tuple) or len(shape) > MOST_AXES:
        raise ValueError("is not a shape")
    if not all(type(axis) is int and 0 <= axis < LONGEST_AXIS for axis in shape):
        raise ValueError("is not a shape")
    return tuple(shape)


def _table(text: bytes) -> dict[str, object]:
    try:
        if not text.startswith(b"{") or sum(map(text.count, (b",", b"[", b"{"))) > MOST_PIECES:
            raise HeaderFault(_DAMAGED)
        table = parse_json(text.decode("utf-8"), _unique)
    except HeaderFault:
        raise
    except ValueError as fault:  # not UTF-8, not JSON, numbers of thousands of digits, unbounded nesting
        raise HeaderFault(_DAMAGED) from fault
    if not isinstance(table, dict):
        raise HeaderFault(_DAMAGED)
    return table


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs) or not all(map(is_text, table)):
        raise HeaderFault(f"{_DAMAGED} (a name appears twice, or is not text)")
    return table


def _metadata(said: object) -> dict[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict) or not all(map(is_text, said.values())):
        raise HeaderFault(f"{_DAMAGED} (its metadata has something that is not text)")
    return said


def _place(name: str, entry: object) -> tuple[int, int, str, tuple[int, ...]]:
    """(begin, end, dtype, shape) of a tensor."""
    if len(name) > LONGEST_NAME:
        raise HeaderFault(f"{_DAMAGED} (a name in it has {len(name):,} characters)")
    if not isinstance(entry, dict):
        raise HeaderFault(f"{_DAMAGED} ({_shown(name)} is not a tensor)")
    dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise HeaderFault(f"{_shown(name)} has an unknown number format ({_shown(dtype)})")
    try:
        shape = check_shape(entry.get("shape"))
    except ValueError as fault:
        raise HeaderFault(f"{_DAMAGED} ({_shown(name)} has no shape)") from fault
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int and offset >= 0 for offset in offsets):
        raise HeaderFault(f"{_DAMAGED} ({_shown(name)} has no position in the file)")
    begin, end = offsets
    if end - begin != math.prod(shape) * WIDTHS[dtype]:
        raise HeaderFault(f"{_DAMAGED} (the space of {_shown(name)} in the file does not match its size)")
    return begin, end, dtype, shape


def _check_places(places: Sequence[tuple[int, int, str, tuple[int, ...], str]], room: int, size: int) -> None:
    last = 0
    for begin, end, _, _, name in sorted(places):
        if begin != last:
            raise HeaderFault(f"{_DAMAGED} (the position of {_shown(name)} in the file does not follow the tensor before it)")
        last = end
    if last > room:
        raise HeaderFault(f"is truncated: it has {size:,} bytes, its header says {size - room + last:,}")
    if last < room:
        raise HeaderFault(f"does not end where its header says: it has {size:,} bytes instead of {size - room + last:,}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 100 else f"{text[:100]}…"
