"""Numbers and lists of names as text."""

from __future__ import annotations

from collections.abc import Mapping


def in_words(size: float) -> str:
    """Bytes in readable units: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 999.5:  # above that, three digits would give 1e+03
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """'1 image', '2 images'."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their counts, largest first and equal ones by name: file systems list files in different orders."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def verb(number: float, singular: str, plural: str) -> str:
    """The form of a verb for this number of things: `verb(1, "is", "are")` is 'is'."""
    return singular if number == 1 else plural


def quoted(value: object, at_most: int = 80) -> str:
    """A value as its repr, with the middle of a long one left out; a long integer as its number of digits."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 100:
        return f"a number of {len(str(abs(value))):,} digits"
    if isinstance(value, str) and len(digits := value.strip().lstrip("+-")) > 30 and digits.isdecimal():
        return f"a number of {len(digits):,} digits"
    return repr(cut(value, at_most)) if isinstance(value, str) else cut(repr(value), at_most)


def cut(text: str, at_most: int = 80) -> str:
    """The text; the middle of a long one is left out."""
    return text if len(text) <= at_most else f"{text[: at_most // 2]}…{text[-at_most // 2 :]}"


def named(names: list[str], at_most: int = 5) -> str:
    """The first names and how many more there are."""
    rest = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {rest} more" if rest > 0 else "")
