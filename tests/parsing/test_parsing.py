"""Texts that break a parser, or whoever reads on, are refused in words; all else is as the packages read it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable

import pytest

from library.parsing.bounds import MOST_DIGITS, MOST_LEVELS, TooMuch
from library.parsing.json_text import is_json, parse_json
from library.parsing.literal import parse_literal
from library.parsing.toml_text import TomlFault, lacks_quotes, parse_toml

Parse = Callable[[str], object]
DEEP = (101, 900, 5_000, 200_000)


def in_toml(text: str) -> object:
    return parse_toml(f"a = {text}")["a"]


PARSERS = pytest.mark.parametrize("parse", [parse_json, in_toml, parse_literal], ids=["JSON", "TOML", "literal"])


@PARSERS
@pytest.mark.parametrize("levels", DEEP)
@pytest.mark.parametrize("closed", [True, False])
def test_brackets_without_an_end_are_refused_at_once(parse: Parse, levels: int, closed: bool) -> None:
    begun = time.perf_counter()
    with pytest.raises(ValueError) as fault:
        parse("[" * levels + ("]" * levels if closed else ""))
    assert time.perf_counter() - begun < 2
    assert not closed or isinstance(fault.value, TooMuch)
    assert not closed or "is nested too deeply (over 100" in str(fault.value)


@pytest.mark.parametrize("levels", DEEP[:3])
def test_tables_without_an_end_are_refused(levels: int) -> None:
    for parse, text in ((parse_json, '{"a":' * levels + "1" + "}" * levels), (parse_toml, "[" + ".".join("a" * levels) + "]\nb = 1")):
        with pytest.raises(TooMuch):
            parse(text)
    with pytest.raises(TooMuch):
        in_toml("{a=" * levels + "1" + "}" * levels)


@PARSERS
@pytest.mark.parametrize("digits", [MOST_DIGITS + 10, 4_000, 5_000, 50_000])
def test_a_number_of_hundreds_of_digits_is_told_by_its_length(parse: Parse, digits: int) -> None:
    with pytest.raises(TooMuch, match=f"has a number with {digits:,} digits"):
        parse("9" * digits)
    with pytest.raises(TooMuch, match="digits"):
        parse("[[-" + "9" * digits + "]]")


def test_a_number_in_another_base_is_measured_too() -> None:
    for parse in (in_toml, parse_literal):
        with pytest.raises(TooMuch, match="digits"):
            parse("0x" + "f" * 5_000)


@PARSERS
def test_what_is_as_deep_and_large_as_anything_real_is_read(parse: Parse) -> None:
    assert parse("[" * (MOST_LEVELS - 1) + "]" * (MOST_LEVELS - 1))
    assert parse("9" * MOST_DIGITS) == int("9" * MOST_DIGITS)


def test_brackets_in_texts_and_remarks_count_for_nothing() -> None:
    many = "[" * 500
    assert parse_toml(f"a = '{many}' # {many}\nb = \"\\\"{many}\"\nc = '''\n{many}'''") == {"a": many, "b": '"' + many, "c": many}
    assert parse_json(json.dumps({"a": many})) == {"a": many}


@pytest.mark.parametrize(
    "text", ["a = ", "= 1", "a = 'b", "[a", "a = 1\na = 2", "[[a]]\n[a]", 'a = "\\x"', "a = [1, 'b']", "a", "[a.b]\n[a]\nb = 1"]
)
def test_every_fault_of_the_toml_package_is_one_of_ours(text: str) -> None:
    with pytest.raises(TomlFault) as fault:
        parse_toml(text)
    assert fault.value.reason


def test_the_packages_words_stay() -> None:
    with pytest.raises(json.JSONDecodeError, match="line 2"):
        parse_json("{\n,}")
    with pytest.raises(TomlFault) as fault:
        parse_toml("a = 1\nb = maybe")
    assert fault.value.line == 2
    assert is_json("[1]") and is_json("[" * 5_000 + "]" * 5_000) and not is_json("{")


@pytest.mark.parametrize("value", ["C:\\photos", "/home/me", "my dog", "./x", "~/x", "dog", "\\\\server\\x"])
def test_text_without_quotes_is_known(value: str) -> None:
    assert lacks_quotes(f"a = {value}  # why")


@pytest.mark.parametrize(
    "value", ["1", "-1.5e-3", "0x1f", "true", "'C:\\x'", '"x', "[1, 2]", "{a = 1}", "2026-01-31", "2026-01-31T10:00:00Z", "+inf", ""]
)
def test_other_values_do_not_lack_quotes(value: str) -> None:
    assert not lacks_quotes(f"a = {value}") and not lacks_quotes("[a]") and not lacks_quotes("word")


def test_a_backslash_in_a_literal_says_nothing_on_the_terminal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_literal("'\\d'") == "\\d"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a]\nb = 1\n[a]\nc = 2", "a already exists"),
        ("a = 1\n[[a.b]]", "one name"),
    ],
)
def test_what_is_wrong_with_toml_is_told_without_words_of_python(text: str, reason: str) -> None:
    with pytest.raises(TomlFault) as fault:
        parse_toml(text)
    assert fault.value.reason.startswith(reason)
    assert "{" not in fault.value.reason and "object" not in fault.value.reason
