"""A tagger in the ONNX form whose answers are known: probability of a tag = mean of the three channels / 255, weighted, plus a constant.

Written byte by byte after onnx.proto3 of the ONNX project, so that no package is needed for it.
"""

from __future__ import annotations

import csv
import json
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


# (name, category, weights of blue, green and red in -1..1, constant) of the other form, whose answers go through a sigmoid.
MAPPED = (
    ("general", "Rating", (0, 0, 0), 0.2),
    ("sensitive", "Rating", (0, 0, 0), 0.6),
    ("masterpiece", "Quality", (0, 0, 0), 0.7),
    ("bad_quality", "Quality", (0, 0, 0), 0.4),
    ("blue_sky", "General", (4, 0, 0), 0.5),
    ("no_humans", "General", (0, 0, 0), 0.8),
    ("some_artist", "Artist", (0, 0, 0), 0.5),
    ("a_series", "Copyright", (0, 0, 0), 0.55),
    ("highres", "Meta", (0, 0, 0), 0.6),
    ("some_model", "Model", (0, 0, 0), 0.45),
    ("miku_(dress)_(someone)", "Character", (0, 0, 0), 0.65),
)


def write_mapped_tagger(folder: Path, tags: Sequence[tuple] = MAPPED, side: int = SIDE) -> Path:
    """model_optimized.onnx and tag_mapping.json in `folder`; a constant is the probability of an image of middle grey."""
    folder.mkdir(parents=True, exist_ok=True)
    logits = [(*row[:3], float(np.log(row[3] / (1 - row[3])))) for row in tags]
    (folder / "model_optimized.onnx").write_bytes(_model(logits, None, side, mapped=True))
    table = {str(number): {"tag": row[0], "category": row[1]} for number, row in enumerate(tags)}
    (folder / "tag_mapping.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def _model(tags: Sequence[tuple], batch: int | None, side: int, mapped: bool = False) -> bytes:
    weights = np.array([row[2] for row in tags], dtype=np.float32).T / np.float32(1 if mapped else 255)
    constant = np.array([row[3] for row in tags], dtype=np.float32)
    dim = _field(1, batch) if batch else _field(2, "N")
    sides, colours = (_field(1, side), _field(1, side)), _field(1, 3)
    image = b"".join(_field(1, part) for part in ((dim, colours, *sides) if mapped else (dim, *sides, colours)))
    answer = _field(1, dim) + _field(1, _field(1, len(tags)))
    axes = _field(1, "axes") + _field(8, 2 if mapped else 1) + _field(8, 3 if mapped else 2) + _field(20, 7)
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
