"""Weighted captions against figures worked out by hand."""

from __future__ import annotations

import pytest

from library.model.text.prompt_weights import LARGEST, parse


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("plain text, with: a colon", [("plain text, with: a colon", 1.0)]),
        ("(a)", [("a", 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("[[a]]", [("a", 1 / 1.21)]),
        ("(a:1.23)", [("a", 1.23)]),
        ("(a: .5 )b", [("a", 0.5), ("b", 1.0)]),
        ("(a [b (c:2)] d)", [("a ", 1.1), ("b ", 1.0), ("c", 2.0), (" d", 1.1)]),
        ("x (a:1.5) y", [("x ", 1.0), ("a", 1.5), (" y", 1.0)]),
        (r"\(a\) \[b\] \\", [(r"(a) [b] " + "\\", 1.0)]),
        ("(((a)))", [("a", 1.331)]),
        ("((a:1.5) b)", [("a", 1.65), (" b", 1.1)]),
        ("(a [b] c:2)", [("a ", 2.0), ("b", 2 / 1.1), (" c", 2.0)]),
        (r"(\(a\) b:1.3)", [("(a) b", 1.3)]),
        (r"((\[a\]:0.5)\):2)", [("[a]", 1.0), (")", 2.0)]),
        (r"(a\:1.2)", [("a\\", 1.2)]),  # a colon needs no escape, and has none
        ("(a:-1)", [("a", -1.0)]),
        ("(a:+.5)(b)", [("a", 0.5), ("b", 1.1)]),
        ("", []),
        ("()", []),
    ],
)
def test_brackets_multiply_weights(caption, expected):
    parsed = parse(caption)
    assert [text for text, _ in parsed] == [text for text, _ in expected]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize("caption", ["(a", "a)", "[a", "a]", "a:1.2)", "(((", ")(", r"a\b", "[a)"])
def test_malformed_brackets_stay_literal_text(caption):
    assert parse(caption) == [(caption, 1.0)]


def test_what_is_no_number_is_no_weight():
    assert parse("(a:1.2.3)") == [("a:1.2.3", 1.1)]
    assert parse("(a:b)") == [("a:b", 1.1)]


@pytest.mark.parametrize("caption", ["(a:" + "9" * 400 + ")", "(" * 50_000 + "a" + ")" * 50_000, "((a:-99999):99999)"])
def test_no_weight_is_too_large_for_half_precision(caption):
    ((text, weight),) = parse(caption)
    assert (text, abs(weight)) == ("a", LARGEST)
