"""Under which names the files of several new words are saved, and which words can have none; known before torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from library.errors import Problem, coded
from library.windows_names import name_fault
from library.words import cut, quoted

BUNDLED = "bundled"  # the file of a network with its words inside, where both ways are asked for
# how other files of a run end
_TAKEN = re.compile(rf"ema(?:-.*)?|(?:.*-)?(?:best|{BUNDLED}|\d{{6}}|step\d{{8}}|state)|.*\.(?:run|images)", re.IGNORECASE)
_MARKS = "<>[]{}()"  # that people put around new words


def name_part(word: str) -> str:
    """What stands for the word in a file's name: the word without brackets around it, `<my-cup>` as `my-cup`."""
    return word.strip(_MARKS)


def suffix_of(word: str) -> str:
    """What stands behind --output_name in the name of the word's file."""
    return f"-{name_part(word)}"


def name_faults(words: Sequence[str], bundled: bool = False) -> Iterator[Problem]:
    """The words that cannot name a file, or not one of their own; `bundled` ones stand in keys of a network's file, which web UIs cut at
    the first dot. A single word of train_textual_inversion.py names no file."""
    if bundled:
        for word in words:
            if "." in word:
                yield coded(
                    "MODEL-018",
                    f"--token_string {cut(word)}: web UIs read a bundled word's name up to its first dot; choose one without, or give "
                    "--save_words side",
                )
    seen: dict[str, str] = {}
    for word in words:
        part, fault = name_part(word), file_fault(word)
        if fault:
            yield coded("MODEL-018", f"--token_string {cut(word)}: its file cannot be called {quoted(part)}: {fault}; choose another word")
        elif part.lower() in seen and seen[part.lower()].lower() != word.lower():
            yield coded(
                "MODEL-018",
                f"--token_string {cut(word)}: its file would have the name of that of {cut(seen[part.lower()])}; choose another word",
            )
        seen.setdefault(part.lower(), word)


def file_fault(word: str) -> str | None:
    """Why the word's file cannot be called by it, or None."""
    part = name_part(word)
    if not part:
        return "nothing is left of the word"
    if "/" in part or "\\" in part:
        return "/ and \\ part folders"
    if _TAKEN.fullmatch(part):
        return "other files of a run end so"
    return name_fault(part)
