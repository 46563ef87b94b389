"""Files that lie: made of a sound one by changing what its header says, or of nothing by asking for what no real file has."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

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


KEY = "lora_unet_mid_block_attentions_0_proj_in"


def write_lora(path: Path, key: str = KEY, metadata: dict[str, str] | None = None, **changed: torch.Tensor | None) -> Path:
    """A LoRA with one module of rank 4 for a weight of 64×64×1×1, with `down`, `up`, `alpha` or more changed, or left out (None)."""
    sound = {"down": torch.ones(4, 64, 1, 1), "up": torch.ones(64, 4, 1, 1), "alpha": torch.tensor(4.0)}
    names = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight", "bias": "lora_up.bias"}
    tensors = {f"{key}.{names.get(kind, kind)}": tensor for kind, tensor in (sound | changed).items() if tensor is not None}
    save_file(tensors, path, metadata)
    return path


NAN = float("nan")
# Modules of a LoRA that are none, by what is wrong with them.
LYING_MODULES: dict[str, dict[str, torch.Tensor | None]] = {
    "rank 0": {"down": torch.ones(0, 64, 1, 1), "up": torch.ones(64, 0, 1, 1)},
    "no inputs": {"down": torch.ones(4, 0, 1, 1)},
    "ranks that differ": {"up": torch.ones(64, 8, 1, 1)},
    "a down that is a number": {"down": torch.tensor(1.0)},
    "an up that is a number": {"up": torch.tensor(1.0)},
    "a down that is a row": {"down": torch.ones(64)},
    "an up that is a row": {"up": torch.ones(64)},
    "three axes": {"down": torch.ones(4, 64, 3)},
    "six axes": {"up": torch.ones(64, 4, 1, 1, 1, 1)},
    "an up of 3×3": {"up": torch.ones(64, 4, 3, 3)},
    "alpha as a vector": {"alpha": torch.ones(4)},
    "alpha as nothing": {"alpha": torch.ones(0)},
    "alpha not a number": {"alpha": torch.tensor(NAN)},
    "alpha infinite": {"alpha": torch.tensor(float("inf"))},
    "no down": {"down": None},
    "no up": {"up": None},
    "alpha alone": {"down": None, "up": None},
    "not a number": {"down": torch.full((4, 64, 1, 1), NAN)},
    "not a number once multiplied": {"down": torch.full((4, 64, 1, 1), 3e38), "up": torch.full((64, 4, 1, 1), 3e38)},
    "alpha not a number once multiplied": {"alpha": torch.tensor(3e38)},
    "whole numbers": {"down": torch.ones(4, 64, 1, 1, dtype=torch.int64)},
    "bytes": {"up": torch.ones(64, 4, 1, 1, dtype=torch.uint8)},
    "yes and no": {"up": torch.ones(64, 4, 1, 1, dtype=torch.bool)},
    "a core of another rank": {"mid": torch.ones(8, 8, 3, 3)},
    "a core that is a matrix": {"mid": torch.ones(4, 4)},
    "a bias of another size": {"bias": torch.ones(3)},
    "two biases": {"bias": torch.ones(64), "diff_b": torch.ones(64)},
}


def _loha(*shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"hada_w{kind}": torch.ones(shape) for kind, shape in zip(("1_a", "1_b", "2_a", "2_b"), shapes, strict=True)}


def _lokr(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"lokr_{kind}": torch.ones(shape) for kind, shape in shapes.items()}


# Modules of other kinds that are none.
LYING_KIN: dict[str, dict[str, torch.Tensor]] = {
    "LoHa that does not multiply": _loha((8, 2), (3, 8), (8, 2), (2, 8)),
    "LoHa of single numbers": _loha((), (), (), ()),
    "LoHa of rank 0": _loha((8, 0), (0, 8), (8, 0), (0, 8)),
    "LoHa with a core that is a row": _loha((2, 8), (2, 8), (2, 8), (2, 8)) | {"hada_t1": torch.ones(2), "hada_t2": torch.ones(2)},
    "LoKr of rows": _lokr(w1=(4,), w2=(4,)),
    "LoKr for a weight of petabytes": _lokr(w1=(3000, 3000), w2=(300, 300)),
    "LoKr that does not multiply": _lokr(w1=(2, 2), w2_a=(4, 2), w2_b=(3, 4)),
    "a difference of whole numbers": {"diff": torch.ones(8, 8, dtype=torch.int32)},
    "a difference that is a number": {"diff": torch.tensor(1.0)},
    "IA3 of many directions": {"weight": torch.ones(8), "on_input": torch.ones(8)},
    "a norm of nothing": {"w_norm": torch.ones(0)},
}


def write_pickle(path: Path, code: bytes, method: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """A file as torch.save makes it, around a pickle of these bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", b"3\n")
        for name, content in members.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


_TORCH = b"\x80\x02"
_ORDERED = _TORCH + b"ccollections\nOrderedDict\nq\x000"
# Pickles that ask for more than a file of their size can have, by what they ask for.
BOMBS: dict[str, bytes] = {
    "a place in a table of billions": _TORCH + b"]r\xff\xff\xff\x3f.",
    "lists without end": _TORCH + b"]" * 3_000_000 + b".",
    "tables without end": _TORCH + b"}" * 3_000_000 + b".",
    "marks without end": _TORCH + b"(" * 3_000_000 + b".",
    "remembered without end": b"\x80\x04]" + b"\x94" * 3_000_000 + b".",
    "a tuple too deep to be hashed": _TORCH + b"}" + b")" + b"\x85" * 300_000 + b"K\x01s0]e.",
    "a tuple that is hashed for ever": _TORCH + b"}" + b")" + b"2\x86" * 100 + b"K\x01s0]e.",
    "a text of terabytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
    "bytes of terabytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.",
    "an array of terabytes": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
    "a number of 2 GiB": _TORCH + b"\x8b" + struct.pack("<l", (1 << 31) - 1) + b"a.",
    "a number below zero bytes": _TORCH + b"\x8b" + struct.pack("<l", -5) + b"a.",
    "a frame of exabytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"a.",
    "a line without an end": _TORCH + b"I" + b"1" * 200_000,
    "copies of one list": _ORDERED + b"(" + b"K\x01" * 50_000 + b"tq\x010(" + b"h\x00h\x01\x85R" * 20_000 + b"l.",
    "nothing": b"",
}


def stored_tensor(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, key: object = "0", kind: str = "FloatStorage") -> bytes:
    """The pickle of a table with one tensor "a", as torch writes it, whatever it says of itself."""

    class Builder(pickle._Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", _Named("torch", kind), key, "cpu", 16) if obj == "STORAGE" else None

        def save(self, obj: object, save_persistent_id: bool = True) -> None:
            if isinstance(obj, _Named):
                self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode("ascii"))
            elif isinstance(obj, _Called):
                self.save(obj.function)
                self.save(obj.arguments)
                self.write(b"R")
            else:
                super().save(obj, save_persistent_id)

    import io

    out = io.BytesIO()
    tensor = _Called(_Named("torch._utils", "_rebuild_tensor_v2"), ("STORAGE", offset, shape, stride, False, None))
    Builder(out, 2).dump({"a": tensor})
    return out.getvalue()


class _Named:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Called:
    def __init__(self, function: _Named, arguments: tuple[object, ...]) -> None:
        self.function, self.arguments = function, arguments


# Tensors of a storage of 16 float32 that are not in it.
LYING_TENSORS: dict[str, bytes] = {
    "larger than its storage": stored_tensor((5, 4), (4, 1)),
    "beginning beyond it": stored_tensor((4,), (1,), offset=14),
    "beginning before it": stored_tensor((4,), (1,), offset=-4),
    "steps below zero": stored_tensor((4,), (-1,), offset=8),
    "a shape below zero": stored_tensor((-4,), (1,)),
    "a shape of fractions": stored_tensor((1.5,), (1,)),  # type: ignore[arg-type]
    "as many numbers as never fit": stored_tensor((1 << 30, 1 << 30), (0, 0)),
    "more steps than axes": stored_tensor((4,), (1, 1)),
    "a storage that is not there": stored_tensor((4,), (1,), key="7"),
    "a storage called by a tuple": stored_tensor((4,), (1,), key=("a",)),
    "an axis of 2⁷⁰ and one of 0": stored_tensor((1 << 70, 0), (1, 1)),
}


def damaged_zips(sound: bytes) -> dict[str, bytes]:
    """By what is wrong with it, a file that torch saved, damaged in one place. Its last member with numbers is the one that suffers."""
    import io

    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        info = [one for one in archive.infolist() if "/data/" in one.filename and one.file_size][-1]
    central = sound.rindex(b"PK\x01\x02", 0, sound.rindex(info.filename.encode("ascii")))
    local = info.header_offset
    data = local + 30 + sum(struct.unpack("<HH", sound[local + 26 : local + 30]))

    def changed(place: int, content: bytes) -> bytes:
        return sound[:place] + content + sound[place + len(content) :]

    return {
        "a byte of the numbers": changed(data, bytes([sound[data] ^ 0xFF])),
        "the check sum": changed(central + 16, b"\x12\x34\x56\x78"),
        "encrypted, it says": changed(central + 8, b"\x01\x00"),
        "packed in a way that nobody knows": changed(central + 10, b"\x63\x00"),
        "packed, it says": changed(central + 10, b"\x08\x00"),
        "the header before the numbers": changed(local, b"XXXX"),
        "the name before the numbers": changed(local + 30, b"\xff\xfe"),
        "the place of the numbers": changed(central + 42, struct.pack("<L", len(sound) + 100)),
        "the list of members": changed(central, b"XXXX"),
        "the length of the list of members": changed(sound.rindex(b"PK\x05\x06") + 12, b"\xff\xff\xff\x7f"),
        "cut at the end": sound[:-30],
        "cut in the middle": sound[: len(sound) // 2],
        "a hole in the middle": sound[: len(sound) // 2] + sound[len(sound) // 2 + 100 :],
    }


def png(width: int, height: int, data: bytes = b"", chunks: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that says it has this size, around packed rows (`data`) and more chunks before them."""
    head = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"", more: str = "") -> bytes:
    """An array as numpy writes it, whatever its header says."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, {more}}}".encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def sound_npz(path: Path) -> Path:
    np.savez(path, latents=np.zeros((4, 8, 12), np.float32), original_size=np.array((96, 64)), crop_ltrb=np.array((0, 0, 96, 64)))
    return path


def write_npz(path: Path, **members: bytes) -> Path:
    """An archive of arrays, of these bytes each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def write_packed(path: Path, name: str, packed: bytes, size: int) -> Path:
    """A zip file of one member, `packed` by deflate, that says it has `size` bytes when it is unpacked."""
    named = name.encode("ascii")
    facts = struct.pack("<HHHHHLLLHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33, 0, len(packed), size, len(named), 0)
    local = b"PK\x03\x04" + facts + named + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + named
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    return path
