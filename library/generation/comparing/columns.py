"""The files of a comparison, known before anything loads: patterns expanded, epochs in order, each with its strengths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
    return in_order(files.values(), {file: updates for file in files.values() if (updates := _updates(file)) is not None})


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


def in_order(files: Iterable[Path], updates: Mapping[Path, int] | None = None) -> list[Path]:
    """Sort by name with numbers by value, and the saves of a run by `updates` if known for all, otherwise by the number in the name.

    The final save, which has no number, comes last.
    """
    known, saves = updates or {}, [(file, _named(file)) for file in files]
    runs_by_number = {(file.parent, named["run"]) for file, named in saves if _number(named) is not None and file not in known}

    def order(save: tuple[Path, re.Match[str]]) -> Order:
        file, named = save
        number = _number(named)
        if number is not None and (file.parent, named["run"]) not in runs_by_number:
            number = known[file]
        place = (1, 0) if number is None else (0, number)
        return (_natural(str(file.parent)), _natural(named["run"]), place, _natural(file.name))

    return [file for file, _ in sorted(saves, key=order)]


def _named(file: Path) -> re.Match[str]:
    named = _SAVE.fullmatch(file.stem)
    assert named is not None, "every name matches"
    return named


def _number(named: re.Match[str]) -> int | None:
    number = named["epoch"] or named["step"]
    return None if number is None else int(number)


def _updates(file: Path) -> int | None:
    """The update after which a file was saved, by its metadata; None if it does not say."""
    try:
        steps = open_weights(file, "--networks").metadata.get("ss_steps", "")
    except UserError:  # its reader reports the error
        return None
    return int(steps) if re.fullmatch(r"[0-9]{1,18}", steps) else None


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key: dog-9 before dog-10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.casefold()) for part in _DIGITS.split(text) if part]


def labels_of(files: Sequence[Path]) -> list[str]:
    """Return the column labels: the file names without ending, and with their folders if several are equal."""
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        return [f"{file.parent.name}/{file.stem}" for file in files]
    return stems
