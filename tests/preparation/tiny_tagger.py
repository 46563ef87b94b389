"""A tagger in the ONNX form whose answers are known: probability of a tag = mean of the three channels / 255, weighted, plus a constant.

Written byte by byte after onnx.proto3 of the ONNX project, so that no package is needed for it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SIDE = 32  # pixels
FLOAT = 1
# (name, category, weights of blue, green and red, constant): what a uniform image of one colour gets is easily told.
TAGS = (
    ("general", 9, (0, 0, 0), 0.2),
    ("sensitive", 9, (0, 0, 0), 0.6),
    ("blue_sky", 0, (1, 0, 0), 0),
    ("green_grass", 0, (0, 1, 0), 0),
    ("red_rose", 0, (0, 0, 1), 0),
    ("o_o", 0, (0, 0, 0), 0.9),
    ("no_humans", 0, (0, 0, 0), 0.45),
    ("rare_thing", 0, (0, 0, 0), 0.25),
    ("some_artist", 1, (0, 0, 0), 0.5),
    ("miku_(someone)", 4, (0, 0, 0), 0.5),
    ("faint_name", 4, (0, 0, 0), 0.3),
)


def write_tagger(folder: Path, tags: Sequence[tuple] = TAGS, batch: int | None = None, side: int = SIDE) -> Path:
    """model.onnx and selected_tags.csv in `folder`; `batch` makes a model for exactly that many images."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_model(tags, batch, side))
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([number, name, category, 1000] for number, (name, category, *_) in enumerate(tags))
    return folder


def _model(tags: Sequence[tuple], batch: int | None, side: int) -> bytes:
    weights = np.array([row[2] for row in tags], dtype=np.float32).T / np.float32(255)
    constant = np.array([row[3] for row in tags], dtype=np.float32)
    dim = _field(1, batch) if batch else _field(2, "N")
    image = b"".join(_field(1, part) for part in (dim, _field(1, side), _field(1, side), _field(1, 3)))
    answer = _field(1, dim) + _field(1, _field(1, len(tags)))
    axes = _field(1, "axes") + _field(8, 1) + _field(8, 2) + _field(20, 7)
    keep = _field(1, "keepdims") + _field(3, 0) + _field(20, 2)
    nodes = [
        _field(1, "image") + _field(2, "mean") + _field(4, "ReduceMean") + _field(5, axes) + _field(5, keep),
        _field(1, "mean") + _field(1, "weights") + _field(2, "weighted") + _field(4, "MatMul"),
        _field(1, "weighted") + _field(1, "constant") + _field(2, "answer") + _field(4, "Add"),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "colours")
    graph += _field(5, _tensor("weights", weights)) + _field(5, _tensor("constant", constant))
    graph += _field(11, _value("image", image)) + _field(12, _value("answer", answer))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def _tensor(name: str, values: np.ndarray) -> bytes:
    return b"".join(_field(1, size) for size in values.shape) + _field(2, FLOAT) + _field(8, name) + _field(9, values.tobytes())


def _value(name: str, dims: bytes) -> bytes:
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, dims)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer message: a varint, or length and bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
