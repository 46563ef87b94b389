"""From a tagger's probabilities to the tags of an image: thresholds by kind, names as requested, order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from library.errors import UserError, coded
from library.options.tool_groups.preparation import TagOptions
from library.preparation.tag_text import split_tags, without_underscores
from library.preparation.wd14 import ARTIST, CHARACTER, COPYRIGHT, DRAWN_BY, GENERAL, META, QUALITY, RATING, Label


@dataclass(frozen=True)
class TagSettings:
    """Which tags are written, and how. `rating` and `quality` are "first", "last" or None; tags in `undesired` may contain spaces."""

    thresh: float = 0.35
    thresholds: Mapping[int, float] = field(default_factory=dict)  # by category, where it differs from `thresh`
    remove_underscore: bool = False
    undesired: frozenset[str] = frozenset()
    rating: str | None = None
    quality: str | None = None
    expand_characters: bool = False
    character_first: bool = False
    always_first: tuple[str, ...] = ()
    replacement: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: TagOptions, separator: str) -> TagSettings:
        """Settings from the command line; lists of tags may use commas or the `separator` of the files."""
        return cls(
            thresh=options.thresh,
            thresholds={
                category: own
                for category, own in {
                    GENERAL: options.general_threshold,
                    CHARACTER: options.character_threshold,
                    META: options.meta_threshold,
                    DRAWN_BY: options.model_threshold,
                    COPYRIGHT: options.copyright_threshold,
                    ARTIST: options.artist_threshold,
                }.items()
                if own is not None
            },
            remove_underscore=options.remove_underscore,
            undesired=frozenset(map(_plain, _listed(options.undesired_tags, separator))),
            rating="first" if options.use_rating_tags else "last" if options.use_rating_tags_as_last_tag else None,
            quality="last" if options.use_quality_tags_as_last_tag else "first" if options.use_quality_tags else None,
            expand_characters=options.character_tag_expand,
            character_first=options.character_tags_first,
            always_first=tuple(map(_plain, _listed(options.always_first_tags or "", separator))),
            replacement=read_replacement(options.tag_replacement or ""),
        )


@dataclass(frozen=True)
class Chosen:
    """The tags of one image by kind, and all written tags in order."""

    rating: str | None
    general: tuple[str, ...]
    character: tuple[str, ...]
    written: tuple[str, ...]
    quality: str | None = None


def choose(probabilities: np.ndarray, labels: Sequence[Label], settings: TagSettings, likeliest_first: bool = False) -> Chosen:
    """The tags for probabilities [tags]: those that reach the threshold of their kind, in the model's order or by probability.

    Of ratings and of qualities, only the most likely one is chosen.
    """
    kinds = np.array([label.category for label in labels])
    known = dict(settings.thresholds)
    if not likeliest_first:  # taggers in this format treat everything but characters and ratings as general tags
        known = dict.fromkeys((ARTIST, COPYRIGHT, META), known.get(GENERAL, settings.thresh)) | known
    thresholds = np.array([known.get(label.category, settings.thresh) for label in labels], dtype=np.float32)
    sure = (probabilities >= thresholds) & (kinds != RATING) & (kinds != QUALITY)
    indices = np.flatnonzero(sure)
    if likeliest_first:
        indices = indices[np.argsort(-probabilities[indices], kind="stable")]
    places: list[int] = indices.tolist()
    names = {
        "rating": _names([_likeliest(probabilities, kinds, RATING)], labels, settings),
        "quality": _names([_likeliest(probabilities, kinds, QUALITY)], labels, settings),
        "general": _names([place for place in places if kinds[place] != CHARACTER], labels, settings),
        "character": _names([place for place in places if kinds[place] == CHARACTER], labels, settings),
    }
    if settings.character_first:
        tags = names["character"] + names["general"]
    elif likeliest_first:  # kinds are mixed then
        tags = _names(places, labels, settings)
    else:
        tags = names["general"] + names["character"]
    for kind, place in (("quality", settings.quality), ("rating", settings.rating)):
        tags = names[kind] + tags if place == "first" else tags + names[kind] if place else tags
    tags = tuple(dict.fromkeys(tags))
    first = [tag for wanted in settings.always_first for tag in tags if _plain(tag) == wanted]
    written = (*first, *(tag for tag in tags if tag not in first))
    rating, quality = (next(iter(names[kind]), None) for kind in ("rating", "quality"))
    return Chosen(rating, names["general"], names["character"], written, quality)


def _likeliest(probabilities: np.ndarray, kinds: np.ndarray, kind: int) -> int | None:
    places = np.flatnonzero(kinds == kind)
    return int(places[np.argmax(probabilities[places])]) if len(places) else None


def added(existing: Sequence[str], new: Iterable[str]) -> list[str]:
    """The tags of a file followed by the tags of `new` that it does not contain; spaces and underscores count as equal."""
    known = {_plain(tag) for tag in existing}
    return [*existing, *(tag for tag in new if _plain(tag) not in known)]


def read_replacement(text: str) -> dict[str, str]:
    """`a,b;c,d` -> {a: b, c: d}; a backslash before a comma or semicolon makes it part of the tag. Raises UserError for anything else.

    >>> read_replacement("tail,cat_tail;a\\\\,b,c")
    {'tail': 'cat_tail', 'a,b': 'c'}
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in _split(text, ";"))):
        names = [re.sub(r"\\([,;])", r"\1", name).strip() for name in _split(part, ",")]
        if len(names) != 2 or not all(names):
            raise UserError(coded("OPT-006", f"--tag_replacement: expected from1,to1;from2,to2, not {part!r}"))
        pairs[_plain(names[0])] = names[1]
    return pairs


def _names(places: Iterable[int | None], labels: Sequence[Label], settings: TagSettings) -> tuple[str, ...]:
    names: list[str] = []
    for label in (labels[place] for place in places if place is not None):
        parts = _expanded(label.name) if settings.expand_characters and label.category == CHARACTER else [label.name]
        for part in parts:
            name = without_underscores(part) if settings.remove_underscore else part
            if _plain(name) not in settings.undesired:
                names.append(settings.replacement.get(_plain(name), name))
    return tuple(names)


def _expanded(name: str) -> list[str]:
    """`name_(dress)_(series)` -> `name_(dress)`, `series`; a name without brackets at its end stays unchanged."""
    if not name.endswith(")") or "(" not in name:
        return [name]
    front, _, series = name.rpartition("(")
    return [part for part in (front.removesuffix("_"), series.removesuffix(")")) if part]


def _plain(tag: str) -> str:
    """A normalized tag for comparison: lower case, spaces instead of underscores."""
    return " ".join(tag.lower().replace("_", " ").split())


def _listed(text: str, separator: str) -> list[str]:
    between = separator.strip()
    return [tag for part in split_tags(text) for tag in (split_tags(part, between) if between else [part])]


def _split(text: str, sign: str) -> list[str]:
    """The parts of `text` between signs that are not escaped by a backslash."""
    return re.split(rf"(?<!\\){re.escape(sign)}", text)
