"""From a tagger's probabilities to the tags of an image: thresholds by kind, names as the user wants them, their order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from library.errors import UserError
from library.options.tool_groups.preparation import TagOptions
from library.preparation.tag_text import split_tags, without_underscores
from library.preparation.wd14 import CHARACTER, RATING, Label


@dataclass(frozen=True)
class TagSettings:
    """Which tags are written, and how. `rating` is "first", "last" or None; tags in `undesired` may have blanks or underscores."""

    general_threshold: float = 0.35
    character_threshold: float = 0.35
    remove_underscore: bool = False
    undesired: frozenset[str] = frozenset()
    rating: str | None = None
    character_first: bool = False
    always_first: tuple[str, ...] = ()
    replacement: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: TagOptions, separator: str) -> TagSettings:
        """What the command line asks for; lists of tags may be written with commas or with the `separator` of the files."""
        return cls(
            general_threshold=options.thresh if options.general_threshold is None else options.general_threshold,
            character_threshold=options.thresh if options.character_threshold is None else options.character_threshold,
            remove_underscore=options.remove_underscore,
            undesired=frozenset(map(_plain, _listed(options.undesired_tags, separator))),
            rating="first" if options.use_rating_tags else "last" if options.use_rating_tags_as_last_tag else None,
            character_first=options.character_tags_first,
            always_first=tuple(map(_plain, _listed(options.always_first_tags or "", separator))),
            replacement=read_replacement(options.tag_replacement or ""),
        )


@dataclass(frozen=True)
class Chosen:
    """The tags of one image by kind, and all that are written, in order."""

    rating: str | None
    general: tuple[str, ...]
    character: tuple[str, ...]
    written: tuple[str, ...]


def choose(probabilities: np.ndarray, labels: Sequence[Label], settings: TagSettings) -> Chosen:
    """The tags for probabilities [tags]: of each kind those at or over the threshold, in the model's order."""
    kinds = np.array([label.category for label in labels])
    thresholds = np.where(kinds == CHARACTER, np.float32(settings.character_threshold), np.float32(settings.general_threshold))
    sure = (probabilities >= thresholds) & (kinds != RATING)
    ratings = np.flatnonzero(kinds == RATING)
    rating = [int(ratings[np.argmax(probabilities[ratings])])] if len(ratings) else []
    names = {
        kind: tuple(_names((labels[n].name for n in places), settings))
        for kind, places in {
            "rating": rating,
            "general": np.flatnonzero(sure & (kinds != CHARACTER)).tolist(),
            "character": np.flatnonzero(sure & (kinds == CHARACTER)).tolist(),
        }.items()
    }
    tags = names["character"] + names["general"] if settings.character_first else names["general"] + names["character"]
    if settings.rating:
        tags = names["rating"] + tags if settings.rating == "first" else tags + names["rating"]
    tags = tuple(dict.fromkeys(tags))
    first = [tag for wanted in settings.always_first for tag in tags if _plain(tag) == wanted]
    written = (*first, *(tag for tag in tags if tag not in first))
    return Chosen(names["rating"][0] if names["rating"] else None, names["general"], names["character"], written)


def added(existing: Sequence[str], new: Iterable[str]) -> list[str]:
    """The tags of a file with those of `new` behind them that it has not, with blanks or underscores."""
    known = {_plain(tag) for tag in existing}
    return [*existing, *(tag for tag in new if _plain(tag) not in known)]


def read_replacement(text: str) -> dict[str, str]:
    """`a,b;c,d` -> {a: b, c: d}; a backslash before a comma or semicolon makes it a part of the tag. UserError for anything else.

    >>> read_replacement("tail,cat_tail;a\\\\,b,c")
    {'tail': 'cat_tail', 'a,b': 'c'}
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in _split(text, ";"))):
        names = [re.sub(r"\\([,;])", r"\1", name).strip() for name in _split(part, ",")]
        if len(names) != 2 or not all(names):
            raise UserError(f"--tag_replacement: expected from1,to1;from2,to2, not {part!r}")
        pairs[_plain(names[0])] = names[1]
    return pairs


def _names(labels: Iterable[str], settings: TagSettings) -> Iterable[str]:
    for label in labels:
        name = without_underscores(label) if settings.remove_underscore else label
        if _plain(name) not in settings.undesired:
            yield settings.replacement.get(_plain(name), name)


def _plain(tag: str) -> str:
    """The form in which tags are compared: small letters, blanks for underscores."""
    return " ".join(tag.lower().replace("_", " ").split())


def _listed(text: str, separator: str) -> list[str]:
    between = separator.strip()
    return [tag for part in split_tags(text) for tag in (split_tags(part, between) if between else [part])]


def _split(text: str, sign: str) -> list[str]:
    """The parts of `text` between the signs that have no backslash before them."""
    return re.split(rf"(?<!\\){re.escape(sign)}", text)
