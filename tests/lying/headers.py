"""Files of safetensors that lie: made of a sound one by changing what its header says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]
Change = Callable[[Header], None]
GIB = 1 << 30


def with_header(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of safetensors with this header (bytes are taken as they are), said to be of `length` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("ascii")
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(header: Header, place: int = 0) -> Header:
    """The tensor that lies first, second … in the file (-1: last), of those that hold something."""
    entries = [value for name, value in header.items() if name != "__metadata__" and value["data_offsets"][1] > value["data_offsets"][0]]
    return sorted(entries, key=lambda entry: entry["data_offsets"])[place]


def _moved(place: int, begin: int, end: int) -> Change:
    def change(header: Header) -> None:
        offsets = _entry(header, place)["data_offsets"]
        offsets[:] = [offsets[0] + begin, offsets[1] + end]

    return change


def _said(**values: object) -> Change:
    return lambda header: _entry(header).update(values)


def _noted(value: object) -> Change:
    return lambda header: header.update(__metadata__=value)


def _shared(header: Header) -> None:
    """Two tensors of one size in one place, so that each by itself is right."""
    entries = [value for name, value in header.items() if name != "__metadata__"]
    sizes: dict[int, Header] = {}
    for entry in entries:
        begin, end = entry["data_offsets"]
        other = sizes.setdefault(end - begin, entry)
        if other is not entry and end > begin:
            entry["data_offsets"] = other["data_offsets"]
            return
    raise LookupError("no two tensors are of one size")


def _behind(header: Header) -> None:
    """Each tensor eight bytes further on, so that nothing is in the first ones."""
    for entry in header.values():
        if "dtype" in entry:
            entry["data_offsets"] = [place + 8 for place in entry["data_offsets"]]


CHANGES: dict[str, Change] = {
    "two tensors in one place": _shared,
    "a tensor into the next": _moved(0, 0, 2),
    "a tensor from before the first": _moved(0, -8, 0),
    "a tensor from behind its end": lambda header: _entry(header)["data_offsets"].reverse(),
    "a gap": _behind,
    "a tensor beyond the end": _moved(-1, 1 << 40, 1 << 40),
    "offsets of thousands of digits": lambda header: _entry(header)["data_offsets"].__setitem__(1, 10**4000),
    "offsets that are fractions": lambda header: _entry(header)["data_offsets"].__setitem__(1, 0.5),
    "offsets that are texts": _said(data_offsets=["0", "8"]),
    "one offset": _said(data_offsets=[0]),
    "no offsets": _said(data_offsets=None),
    "a kind of numbers that nobody knows": _said(dtype="F128"),
    "a kind of numbers that is a list": _said(dtype=["F32"]),
    "no kind of numbers": _said(dtype=None),
    "a shape larger than its bytes": lambda header: _entry(header)["shape"].append(2),
    "a shape below zero": lambda header: _entry(header)["shape"].__setitem__(0, -4),
    "a shape of fractions": lambda header: _entry(header)["shape"].__setitem__(0, 1.5),
    "a shape that is a number": _said(shape=4),
    "a shape of a thousand axes": _said(shape=[1] * 1000),
    "no shape": _said(shape=None),
    "metadata of numbers": _noted({"ss_epoch": 3}),
    "metadata of lists": _noted({"ss_tags": ["a"]}),
    "metadata that is a list": _noted(["a"]),
    "metadata that is a text": _noted("a"),
    "metadata with half a sign": _noted({"a": "\ud800"}),
    "a name with half a sign": lambda header: header.update({"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    "a tensor that is a number": lambda header: header.update(more=3),
    "a tensor that is nothing": lambda header: header.update(more=None),
    "a tensor that is a list": lambda header: header.update(more=["F32", [1], [0, 4]]),
}


def lying_safetensors(sound: bytes) -> dict[str, bytes]:
    """By what is wrong with it, the content of a file made of a sound one's; the change alone makes each a lie."""
    (length,) = struct.unpack("<Q", sound[:8])
    text, data = sound[8 : 8 + length], sound[8 + length :]
    found = {}
    for name, change in CHANGES.items():
        header = json.loads(text)
        try:
            change(header)
        except LookupError:  # the first tensor has no axis, or no two are of one size
            continue
        found[name] = with_header(header, data)
    bare, nothing = text.rstrip(), b'"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    return found | {
        "the same name twice": with_header(b"{" + nothing + nothing + bare[1:], data),
        "nested without end": with_header(bare[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", data),
        "nested objects without end": with_header(bare[:-1] + b',"x":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", data),
        "a list of millions": with_header(bare[:-1] + b',"x":[' + b"0," * 3_000_000 + b"0]}", data),
        "a name of a million letters": with_header(b'{"' + b"unet." * 200_000 + b'a":' + nothing[4:] + bare[1:], data),
        "a header longer than the file": with_header(text, data, len(sound)),
        "a header of petabytes": with_header(text, data, 1 << 62),
        "a header cut in two": with_header(text, data, length // 2),
        "no JSON": with_header(b"{" + b"?" * (length - 1), data),
        "no UTF-8": with_header(bare[:-1] + b',"\xff":1}', data),
        "a header in UTF-16": with_header(b"{" + text.decode("utf-8").encode("utf-16-le")[1:], data),
        "truncated": sound[:-2],
        "longer than it says": sound + b"\0" * 64,
        "the header alone": sound[: 8 + length],
        "cut inside its header": sound[: 8 + length // 2],
    }
