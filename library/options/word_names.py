"""The file names of several new words, and which words can have one; known without torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from library.errors import Problem, coded
from library.windows_names import name_fault
from library.words import cut, quoted

BUNDLED = "bundled"  # the file of a network with its words inside, if both forms are requested
# endings of other files of a run
_TAKEN = re.compile(rf"ema(?:-.*)?|(?:.*-)?(?:best|{BUNDLED}|\d{{6}}|step\d{{8}}|state)|.*\.(?:run|images)", re.IGNORECASE)
_MARKS = "<>[]{}()"  # characters that people put around new words


def name_part(word: str) -> str:
    """Return the word as part of a file name: without brackets around it, `<my-cup>` as `my-cup`."""
    return word.strip(_MARKS)


def suffix_of(word: str) -> str:
    """Return what follows --output_name in the name of the word's file."""
    return f"-{name_part(word)}"


def name_faults(words: Sequence[str], bundled: bool = False) -> Iterator[Problem]:
    """Yield an error for words that cannot name a file, or not a separate file; `bundled` words are part of keys in a network's file,
    which web UIs cut at the first dot. A single word of train_textual_inversion.py names no file."""
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
    """Why the word cannot name its file, or None."""
    part = name_part(word)
    if not part:
        return "nothing is left of the word"
    if "/" in part or "\\" in part:
        return "/ and \\ part folders"
    if _TAKEN.fullmatch(part):
        return "other files of a run end so"
    return name_fault(part)
