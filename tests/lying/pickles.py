"""Pickles that lie, and the zip files around them: asking for what no real file has, or made of a sound one by damaging it."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path


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
