"""Guess what a user meant: the nearest known name, and the nearest existing file or folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from library.paths.look import is_folder


def closest(name: str, known: Iterable[str], likeness: float = 0.7) -> str | None:
    """Return the known name nearest to `name`, or None if none is near; ignores letter case and hyphens, and accepts abbreviations.

    >>> closest("lerning-rate", ["learning_rate", "seed"]), closest("max_train_e", ["max_train_steps", "max_train_epochs"])
    ('learning_rate', 'max_train_epochs')
    """
    from difflib import get_close_matches

    known = list(known)
    wanted = name.lower().replace("-", "_")
    plain = {entry.lower().replace("-", "_"): entry for entry in known}
    if wanted in plain:
        return plain[wanted]
    begins = [entry for entry in plain if len(wanted) > 3 and entry.startswith(wanted)]
    if len(begins) == 1:
        return plain[begins[0]]
    near = get_close_matches(wanted, plain, n=1, cutoff=likeness)
    return plain[near[0]] if near else None


def plain_name(name: str) -> str:
    """Return the name in lower case and with underscores, as options are written."""
    return name.strip().lower().replace("-", "_")


def mistyped(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which `name` is a typo: the one that differs by the fewest letters, at most two, or one for short names.

    A number after a whole name (`unet_lr2`) is another name, not a typo; so is another letter in a name of two or three letters.

    >>> mistyped("netwrok_dim", ["network_dim", "network_alpha"]), mistyped("unet_lr2", ["unet_lr"])
    ('network_dim', None)
    """
    plain = plain_name(name)
    best: tuple[int, str] | None = None
    for entry in known:
        at_most = 2 if min(len(plain), len(entry)) >= 6 else 1
        if abs(len(plain) - len(entry)) > at_most or (best is not None and best[0] == 1):
            continue
        steps = edits(plain, entry)
        if 0 < steps <= at_most and (best is None or steps < best[0]) and not _another_name(plain, entry):
            best = steps, entry
    return best[1] if best else None


def _another_name(name: str, known: str) -> bool:
    if len(known) <= 3 and len(name) == len(known) and sorted(name) != sorted(known):
        return True
    rest = name.removeprefix(known).lstrip("_")
    return name.startswith(known) and rest.isdigit() and not known[-1].isdigit()


def edits(one: str, other: str) -> int:
    """The number of letters to delete, insert, replace, or swap with a neighbour to turn one text into the other (Damerau 1964)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                row[j] = min(row[j], earlier[j - 2] + 1)
    return row[-1]


_NO_BACKSLASH = ("¥", "₩")  # as Japanese and Korean fonts show a backslash; copied text may have the sign itself


def missing_path(path: Path, folder: bool = False) -> str:
    """Say where a path that does not exist stops existing, and what exists there instead.

    >>> missing_path(Path("/no/such.toml"))
    'no such file (folder /no does not exist)'
    """
    what = "no such folder" if folder else "no such file"
    path = Path(path)
    for part in (path, *path.parents):
        if is_folder(part.parent):
            break
        part = part.parent
    near = _sibling(part)
    where = f" (folder {part} does not exist)" if part != path else ""
    return f"{what}{where}" + (f"; did you mean {part.parent / near}?" if near else backslash_hint(path))


def backslash_hint(path: Path) -> str:
    """'; it contains ¥, …' for a path with a sign that some fonts show instead of a backslash; empty without one."""
    sign = next((sign for sign in _NO_BACKSLASH if sign in str(path)), "")
    return f"; it contains {sign}, which is not a backslash: write / instead" if sign else ""


def _sibling(path: Path) -> str | None:
    """Return the most similar name in the folder of `path`: with the same ending if the stem is similar, with another if it is equal."""
    beside = [name for name in _names(path.parent) if name != path.name]  # not itself, if it is a broken link
    stems = {Path(name).stem: name for name in beside if Path(name).suffix.lower() == path.suffix.lower()}
    near = closest(path.stem, stems, likeness=0.6)
    if near is not None:
        return stems[near]
    return next((name for name in beside if Path(name).stem.lower() == path.stem.lower()), None)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, 5000))
    except OSError:
        return []
