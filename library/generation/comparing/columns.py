"""The files of a comparison, known before anything loads: patterns expanded, epochs in order, each with its strengths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from library.console import log
from library.containers.weights_file import open_weights
from library.errors import Problem, UserError, coded
from library.paths.faults import file_fault
from library.paths.listing import matching
from library.paths.look import exists, expanded, is_folder, real

_SAVE = re.compile(r"(?P<run>.*?)(?:-(?P<epoch>\d{6})|-step(?P<step>\d{8}))?")
_DIGITS = re.compile(r"(\d+)")
_PATTERN = re.compile(r"[*?\[]")
Order = tuple[object, ...]


def network_files(texts: Sequence[str]) -> list[Path]:
    """Expand names and patterns (`dog-0000*.safetensors`) to files, each once, in the order of epochs and steps.

    Patterns are expanded here because not every terminal does it. The UserError lists everything that matches nothing.
    """
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    for text in texts:
        path = expanded(Path(text))
        matches = [path] if exists(path) or not _PATTERN.search(text) else _fitting(path)
        if not matches:
            problems.append(coded("PATH-001", f"--networks {text}: no file matches this pattern; check the folder and the name"))
        words = [file for file in matches if _is_embedding(file)]
        if path in words:
            problems.append(coded("LORA-001", f"--networks {path}: is an embedding (a new word), no network; remove it from --networks"))
        elif words:
            log.info(f"--networks {text}: {', '.join(file.name for file in words)}: an embedding, no network, so it gets no column")
        for file in (file for file in matches if file not in words):
            if fault := file_fault(file):
                problems.append(fault.reworded(f"--networks: {fault}"))
            files.setdefault(real(file), file)
    if not files and not problems:
        problems.append(coded("PATH-001", "--networks: only embeddings match; name the network files"))
    if problems:
        raise UserError(*problems)
    return in_order(files.values())


def _is_embedding(file: Path) -> bool:
    """Whether a file contains the vectors of a word, by its header: tensor names of a network have a dot (module.part), those of a word do
    not."""
    try:
        names = open_weights(file, "--networks").infos
    except UserError:  # its reader reports the error
        return False
    return bool(names) and not any("." in name for name in names)


def _fitting(pattern: Path) -> list[Path]:
    """Return the matching files; the folder may be part of the pattern, or have such characters in its name."""
    top, wanted = (
        (pattern.parent, pattern.name) if is_folder(pattern.parent) else (Path(pattern.anchor), str(pattern)[len(pattern.anchor) :])
    )
    try:
        return [path for path in matching(top, wanted) if not is_folder(path)]
    except (OSError, ValueError, NotImplementedError):  # `**` inside a word, for example
        return []


def in_order(files: Iterable[Path]) -> list[Path]:
    """Sort by name with numbers by value, and the saves of a run by epoch or step; the final save, which has no number, comes last."""
    return sorted(files, key=_order)


def _order(file: Path) -> Order:
    named = _SAVE.fullmatch(file.stem)
    assert named is not None, "every name matches"
    number = named["epoch"] or named["step"]
    place = (1, 0) if number is None else (0, int(number))
    return (_natural(str(file.parent)), _natural(named["run"]), place, _natural(file.name))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key: dog-9 before dog-10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.casefold()) for part in _DIGITS.split(text) if part]


def labels_of(files: Sequence[Path]) -> list[str]:
    """Return the column labels: the file names without ending, and with their folders if several are equal."""
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        return [f"{file.parent.name}/{file.stem}" for file in files]
    return stems
