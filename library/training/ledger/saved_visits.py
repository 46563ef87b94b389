"""Saves the showings of a run into the folder of a state; loading restores them exactly or refuses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.parsing.json_text import parse_json
from library.paths.look import is_file
from library.training.ledger.visits import KEPT, OTHER, ROW, ImageName, Rows, Visits

FILE = "showings.safetensors"
_TABLES = "tables"  # names, captions and sizes as JSON, in bytes


def save_visits(visits: Visits, folder: Path) -> None:
    """Write the showings (28 bytes each) and the tables."""
    rows = visits.rows()
    tables = {"images": visits.names, "captions": list(visits.captions), "sizes": list(visits.sizes)}
    content = np.frombuffer(json.dumps(tables).encode("ascii"), np.uint8).copy()
    columns = {name: torch.from_numpy(np.ascontiguousarray(rows[name])) for name in KEPT}
    save_file(columns | {_TABLES: torch.from_numpy(content)}, folder / FILE)


def load_visits(folder: Path) -> Visits | None:
    """The showings of a state; None if it was saved without any. Raises UserError for a damaged file."""
    if not is_file(folder / FILE):
        return None
    file = open_weights(folder / FILE, "--resume")
    columns = {name: tensor.numpy().copy() for name, tensor in file.read(file.infos)}
    try:
        tables = parse_json(columns.pop(_TABLES).tobytes())
        names = [ImageName(str(key), str(path), int(dataset), bool(is_class)) for key, path, dataset, is_class in tables["images"]]
        captions = [(int(image), str(text)) for image, text in tables["captions"]]
        sizes = [(int(width), int(height)) for width, height in tables["sizes"]]
        rows = _rows(columns, {"image": len(names), "caption": len(captions), "size": len(sizes)})
        if any(not 0 <= image < len(names) for image, _ in captions):
            raise ValueError("a caption of no image")
        return Visits.of(names, captions, sizes, rows)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise UserError(coded("STATE-002", f"--resume {folder}: {FILE} is damaged ({fault}); use an older state")) from fault


def _rows(columns: dict[str, Any], lengths: dict[str, int]) -> Rows:
    """The table of these columns. Raises ValueError if one is missing, has a wrong length or dtype, or points past its table."""
    if columns.keys() != set(KEPT) or len({column.shape for column in columns.values()}) > 1:
        raise ValueError("its columns are not those of an image ledger")
    rows = np.zeros(len(columns["step"]), ROW)
    for name, column in columns.items():
        if column.dtype != ROW[name] or column.ndim != 1:
            raise ValueError(f"{name} is {column.dtype}")
        least = OTHER if name == "caption" else 0
        if name != "loss" and len(column) and not least <= column.min() <= column.max() < lengths.get(name, 1 << 31):
            raise ValueError(f"{name} is out of its range")
        rows[name] = column
    return rows
