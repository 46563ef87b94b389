"""The images of a comparison; a file name is a hash of everything that determines its image, so existing images are not generated again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from library.files import sha256
from library.generation.checks import NetworkChoice
from library.model.drawing.samplers import SAMPLERS
from library.options.tool_groups.pictures import PictureModelOptions, PictureWorkOptions
from library.paths.listing import walk
from library.paths.look import expanded, is_file, is_folder
from library.paths.opening import regular
from library.pictures.prompt_files import SamplePrompt

WAY = 1  # version of the generation: raise it when the same settings give another image
FOLDER = "cells"
KEY = "cell"  # the PNG text with the whole key, which reveals truncated and foreign files
_SMALL = 1 << 28  # bytes; a larger model is identified by size and date instead of its content


@dataclass(frozen=True)
class Column:
    """A file at a strength; `choice` None: the model without a network."""

    choice: NetworkChoice | None
    strength: float
    label: str


@dataclass(frozen=True)
class Cell:
    """One image: a prompt under a column, in the file `path`."""

    prompt: SamplePrompt
    seed: int
    column: Column
    path: Path
    key: str

    def is_there(self) -> bool:
        """Whether the image exists and is complete."""
        if not is_file(self.path):
            return False
        from PIL import Image

        try:
            with Image.open(regular(self.path)) as image:
                image.load()
                texts: Mapping[str, str] = image.text
                return texts.get(KEY) == self.key
        except (OSError, ValueError, SyntaxError, AttributeError):
            return False


def cells(
    prompts: Sequence[SamplePrompt], seed: int, columns: Sequence[Column], shared: Mapping[str, Any], folder: Path
) -> list[list[Cell]]:
    """Return one row per prompt; `shared` (`facts_of`) is what all images have in common. Prompts without `--d` use `seed`."""
    hashes = {column.choice.file: sha256(column.choice.file) for column in columns if column.choice is not None}
    rows = []
    for prompt in prompts:
        own = seed if prompt.seed is None else prompt.seed
        rows.append([_cell(prompt, own, column, shared, hashes, folder) for column in columns])
    return rows


def _cell(prompt: SamplePrompt, seed: int, column: Column, shared: Mapping[str, Any], hashes: Mapping[Path, str], folder: Path) -> Cell:
    network = None
    if column.choice is not None:
        network = [hashes[column.choice.file], column.choice.module, column.choice.args, column.strength]
    facts = dict(shared) | {"prompt": asdict(prompt), "seed": seed, "network": network}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
    return Cell(prompt, seed, column, folder / FOLDER / f"{key[:24]}.png", key)


def facts_of(files: PictureModelOptions, work: PictureWorkOptions, sampler: str) -> dict[str, Any]:
    """Return what determines all images alike: the model, how prompts are read, the precision."""
    precision = [work.fp16, work.bf16, work.no_half_vae]
    reading = [files.v2, files.v_parameterization, files.zero_terminal_snr, files.clip_skip, files.max_embeddings_multiples]
    assert sampler in SAMPLERS
    model, vae = _identity(files.ckpt), None if files.vae is None else _identity(files.vae)
    return {"way": WAY, "model": model, "vae": vae, "told": reading, "precision": precision, "sampler": sampler}


def _identity(name: str) -> list[str | int]:
    """Identify a model: by the content of a small file, by size and date of a larger file or a folder's files."""
    path = expanded(Path(name))
    if is_file(path):
        stat = path.stat()
        return [sha256(path)] if stat.st_size <= _SMALL else [stat.st_size, stat.st_mtime_ns]
    members = [base / name for base, files, _ in walk(path) for name in files.files] if is_folder(path) else []
    return [name, *(part for file in sorted(members) for part in _stamp(path, file))]


def _stamp(folder: Path, file: Path) -> Iterator[str | int]:
    stat = file.stat()
    yield from (file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
