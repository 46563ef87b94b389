"""Cleans tags and captions with a table of rules: pure functions of a text, and a loop over a metadata file."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from library.console import log, progress
from library.data.scan.metadata_file import Metadata
from library.errors import coded
from library.partial_faults import Faults
from library.preparation.cleaning_rules import CaptionRules, Rules, TagRules
from library.preparation.tag_text import split_tags, without_underscores
from library.words import counted, named


def clean_metadata(metadata: Metadata, rules: Rules, show: Callable[[str], None] | None = None) -> tuple[Metadata, Faults]:
    """The metadata with clean "tags" and "caption" in every entry, and the errors; texts with errors stay unchanged.

    `show` receives a line for each text that changes.
    """
    faults = Faults()
    cleaned: Metadata = {}
    without: dict[str, list[str]] = {"tags": [], "caption": []}
    clean: dict[str, Callable[[str], str]] = {
        "tags": lambda text: clean_tags(text, rules.tags),
        "caption": lambda text: clean_caption(text, rules.captions),
    }
    for key, entry in progress(metadata.items(), label="cleaning", unit="image"):
        cleaned[key] = dict(entry)
        for field, function in clean.items():
            text = entry.get(field)
            if text is None:
                without[field].append(key)
            elif not isinstance(text, str):
                faults.add(coded("DATA-007", f'entry {key!r}: "{field}" is not text; write it in quotation marks'))
            else:
                cleaned[key][field] = function(text)
                if show and cleaned[key][field] != text:
                    show(f"{key}: {field}\n  before: {text}\n  after:  {cleaned[key][field]}")
    for field, keys in without.items():
        if keys and len(keys) < len(metadata):
            log.warning("%s without %s: %s", counted(len(keys), "entry", "entries"), field, named(keys))
    return cleaned, faults


def clean_tags(text: str, rules: TagRules) -> str:
    """The cleaned tags of one image, in their order, without duplicates."""
    tags = list(dict.fromkeys(split_tags(text)))
    if rules.underscores_to_spaces:
        tags = list(dict.fromkeys(without_underscores(tag, rules.keep_underscores) for tag in tags))
    gone = {tag for tag in tags if _is_one_of(tag, rules.remove)}
    gone |= _lower_counts(tags, rules)
    if _several_people([tag for tag in tags if tag not in gone], rules):
        gone |= {tag for tag in tags if _is_one_of(tag, rules.not_with_several_people)}
        gone |= _unclear_whose([tag for tag in tags if tag not in gone], rules)
    if rules.remove_less_exact:
        stay = [tag.lower() for tag in tags if tag not in gone]
        gone |= {tag for tag in tags if any(other.endswith(" " + tag.lower()) for other in stay)}
    return ", ".join(tag for tag in tags if tag not in gone)


def clean_caption(text: str, rules: CaptionRules) -> str:
    """The caption with one word for each kind of people, and "a" or "an" to match the next word."""
    replacements = {word: target for target, words in rules.replace for word in words}
    people = (*replacements, *(target for target, _ in rules.replace), *rules.other_people)
    pattern = _people_pattern(rules.drop_before_people, people)
    return pattern.sub(lambda match: _replaced(match, replacements), text) if pattern else text


def _lower_counts(tags: Iterable[str], rules: TagRules) -> set[str]:
    """Tags that contradict a higher count, or another tag that excludes them."""
    by_name = {tag.lower(): tag for tag in tags}
    gone = set()
    for counts in rules.counts:
        gone |= {by_name[name] for name in [name for name in counts if name in by_name][:-1]}
    for name, others in rules.not_beside:
        if any(fnmatchcase(tag, name) for tag in by_name):
            gone |= {tag for lower, tag in by_name.items() if _is_one_of(lower, others)}
    return gone


def _several_people(tags: Iterable[str], rules: TagRules) -> bool:
    names = {tag.lower() for tag in tags}
    people = sum(counts.index(name) + 1 for counts in rules.counts for name in counts if name in names)
    return people > 1 or any(_is_one_of(name, rules.several_people) for name in names)


def _unclear_whose(tags: Iterable[str], rules: TagRules) -> set[str]:
    """All tags of each kind that occurs more than once, since it is unclear which person they describe."""
    kinds: dict[str, set[str]] = {}
    for tag in tags:
        kind = next((kind for kind, patterns in rules.one_for_each_person if _is_one_of(tag, patterns)), None)
        if kind is not None:
            kinds.setdefault(kind, set()).add(tag)
    return {tag for same_kind in kinds.values() if len(same_kind) > 1 for tag in same_kind}


def _is_one_of(tag: str, patterns: Iterable[str]) -> bool:
    name = tag.lower().replace("_", " ") if "_" in tag else tag.lower()
    return any(fnmatchcase(form, pattern) for form in {name, tag.lower()} for pattern in patterns)


@functools.lru_cache(maxsize=8)
def _people_pattern(drop: tuple[str, ...], people: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches a word for people with the words to drop before it and the article before those; None without words for people."""
    if not people:
        return None
    start, end = r"(?<![\w'’-])", r"(?![\w-])"
    dropped = rf"(?P<dropped>(?:(?:{_any_of(drop)})\s+)*)" if drop else "(?P<dropped>)"
    return re.compile(rf"{start}(?P<article>(?:an?)\s+)?{dropped}(?P<people>{_any_of(people)}){end}", re.IGNORECASE)


def _any_of(words: Iterable[str]) -> str:
    return "|".join(r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True))


def _replaced(match: re.Match[str], replacements: dict[str, str]) -> str:
    article, dropped, people = match["article"] or "", match["dropped"], match["people"]
    word = replacements.get(" ".join(people.lower().split()), people)
    if word == people and not dropped:
        return match[0]
    if article:
        right = "an" if word[0].lower() in "aeiou" else "a"
        return _cased(right, article) + article[len(article.rstrip()) :] + word
    return _cased(word, dropped or people)


def _cased(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[:1].isupper() else word
