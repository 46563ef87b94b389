"""What is passed over in a folder or in captions, told in run and report: pictures of other kinds, further lines, other commas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from library.data.scan.findings import WARNING, Finding
from library.image_endings import described, remedy, unread_pictures
from library.words import counted, named

_COMMAS = ("，", "、")  # of Chinese and Japanese text; Python and tokenizers take neither for a comma


def unread(place: str, folder: Path, names: Iterable[str]) -> Iterator[Finding]:
    """Pictures among these files of `folder` that cannot be read here, counted by ending."""
    names = list(names)
    endings = unread_pictures(names)
    if endings:
        files = tuple(str(folder / name) for name in sorted(names) if unread_pictures([name]))
        text = f"{place}: {described(endings)} in '{folder}', left out: {named([Path(file).name for file in files], 3)}"
        yield Finding(WARNING, text, f"{remedy(endings)}, or take them away", files)


def further_lines(place: str, lines: Mapping[Path, int]) -> Iterator[Finding]:
    """Caption files with more than their first line; `lines` are those that hold something and are not read, by file."""
    if lines:
        files = tuple(map(str, lines))
        more = counted(sum(lines.values()), "further line")
        names = named([path.name for path in lines])
        text = f"{place}: only the first line of {counted(len(lines), 'caption file')} is read, {more} left out: {names}"
        yield Finding(WARNING, text, "write the whole caption into one line", files)


def other_commas(place: str, captions: Sequence[tuple[Path, str]]) -> Iterator[Finding]:
    """Captions in which the comma of another script stands where tags might be separated."""
    files = tuple(str(path) for path, caption in captions if any(sign in caption for sign in _COMMAS))
    if files:
        signs = " or ".join(sign for sign in _COMMAS if any(sign in caption for _, caption in captions))
        text = (
            f"{place}: {counted(len(files), 'caption has', 'captions have')} {signs}, which separates no tags: "
            f"{named([Path(file).name for file in files])}"
        )
        yield Finding(WARNING, text, "write a plain comma between tags; in sentences it may stay", files)
