"""What a draw makes of a caption."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from library.data.batching.captions import Position, brackets_hold_commas, draw_caption, tags_in_warmup
from library.data.config.blueprint import SubsetOptions

TEXT = "shs dog, sitting,  on grass ,blue sky"


def draws(settings: SubsetOptions, count: int = 400, position: Position = Position(), text: str = TEXT) -> Counter[str]:  # noqa: B008
    return Counter(draw_caption(text, settings, random.Random(seed), position) for seed in range(count))


def test_without_a_rule_the_caption_is_untouched() -> None:
    assert draws(SubsetOptions(keep_tokens=2)) == {TEXT: 400}


def test_shuffling_reaches_every_order_and_keeps_the_first_tags() -> None:
    assert len(draws(SubsetOptions(shuffle_caption=True))) == 24
    kept = draws(SubsetOptions(shuffle_caption=True, keep_tokens=2))
    assert kept.keys() == {"shs dog, sitting, on grass, blue sky", "shs dog, sitting, blue sky, on grass"}
    assert draws(SubsetOptions(shuffle_caption=True, keep_tokens=9)).keys() == {"shs dog, sitting, on grass, blue sky"}


def test_caption_is_dropped_at_its_rate() -> None:
    assert draws(SubsetOptions(caption_dropout_rate=0.25), 2000)[""] == pytest.approx(500, abs=80)
    assert draws(SubsetOptions(caption_dropout_rate=1.0)) == {"": 400}


def test_caption_is_dropped_in_every_nth_epoch_counted_from_one() -> None:
    settings = SubsetOptions(caption_dropout_every_n_epochs=3)
    assert [draw_caption(TEXT, settings, random.Random(0), Position(epoch)) == "" for epoch in range(7)] == [False, False, True] * 2 + [
        False
    ]


def test_tags_are_dropped_at_their_rate_but_kept_ones_never() -> None:
    settings = SubsetOptions(caption_tag_dropout_rate=0.5, keep_tokens=1)
    seen = draws(settings, 2000)
    assert all(text.startswith("shs dog") for text in seen) and len(seen) == 8
    assert sum(count for text, count in seen.items() if "sitting" in text) == pytest.approx(1000, abs=100)
    assert draws(SubsetOptions(caption_tag_dropout_rate=1.0)) == {"": 400}


@pytest.mark.parametrize(
    ("update", "expected"), [(0, 1), (33, 1), (34, 2), (66, 2), (67, 3), (99, 3), (100, 4), (5000, 4)]
)  # 1 + ⌊update·3/100⌋
def test_token_warmup_adds_tags_in_a_straight_line(update: int, expected: int) -> None:
    settings = SubsetOptions(token_warmup_min=1, token_warmup_step=100)
    assert tags_in_warmup(4, settings, Position(update=update)) == expected
    (text,) = draws(settings, 3, Position(update=update))
    assert text == ", ".join(["shs dog", "sitting", "on grass", "blue sky"][:expected])


def test_token_warmup_under_one_is_a_share_of_all_updates() -> None:
    settings = SubsetOptions(token_warmup_min=2, token_warmup_step=0.5)
    assert [tags_in_warmup(4, settings, Position(update=update, updates=200)) for update in (0, 50, 99, 100)] == [2, 3, 3, 4]
    assert tags_in_warmup(4, settings, Position(update=100, updates=201)) == 4  # 100.5 are 100
    assert tags_in_warmup(1, settings, Position(update=0, updates=200)) == 1  # fewer tags than token_warmup_min
    assert tags_in_warmup(4, settings, Position(update=0, updates=0)) == 4


def test_draw_is_a_function_of_its_generator_alone() -> None:
    settings = SubsetOptions(shuffle_caption=True, caption_tag_dropout_rate=0.3, caption_dropout_rate=0.1)
    random.seed(1)
    first = [draw_caption(TEXT, settings, random.Random(seed), Position()) for seed in range(50)]
    random.seed(2)
    assert first == [draw_caption(TEXT, settings, random.Random(seed), Position()) for seed in range(50)]


def test_every_order_is_as_likely_as_any_other() -> None:
    """χ² over the 24 orders of four tags; 49.7 is exceeded once in a thousand times (23 degrees of freedom)."""
    count = 4800
    seen = draws(SubsetOptions(shuffle_caption=True), count)
    assert len(seen) == 24 and sum((times - count / 24) ** 2 / (count / 24) for times in seen.values()) < 49.7


@pytest.mark.parametrize("update", [0, 50, 100])
def test_head_stays_whatever_else_happens_to_the_tags(update: int) -> None:
    settings = SubsetOptions(shuffle_caption=True, keep_tokens=2, caption_tag_dropout_rate=0.6, token_warmup_min=2, token_warmup_step=100)
    for text in draws(settings, 500, Position(update=update), "a, b, c, d, e, f"):
        assert text.split(", ")[:2] == ["a", "b"]


def test_tags_behind_the_head_are_dropped_independently_of_each_other() -> None:
    """Each at its rate, and two together at the product of theirs."""
    count, rate = 4000, 0.3
    kept = draws(SubsetOptions(caption_tag_dropout_rate=rate), count, text="a, b, c")
    alone = {tag: sum(times for text, times in kept.items() if tag in text.split(", ")) / count for tag in "abc"}
    assert all(share == pytest.approx(1 - rate, abs=0.03) for share in alone.values())
    both = sum(times for text, times in kept.items() if {"a", "c"} <= set(text.split(", "))) / count
    assert both == pytest.approx((1 - rate) ** 2, abs=0.03)


def test_dropout_epoch_and_rate_add_up() -> None:
    settings = SubsetOptions(caption_dropout_every_n_epochs=2, caption_dropout_rate=0.25)
    assert draws(settings, 2000, Position(epoch=1)) == {"": 2000}
    assert draws(settings, 2000, Position(epoch=2))[""] == pytest.approx(500, abs=80)


def test_warm_up_shows_the_first_tags_before_they_are_shuffled() -> None:
    settings = SubsetOptions(shuffle_caption=True, token_warmup_min=1, token_warmup_step=100)
    seen = draws(settings, 400, Position(update=34))
    assert seen.keys() == {"shs dog, sitting", "sitting, shs dog"}


@pytest.mark.parametrize(
    ("caption", "torn"),
    [
        ("(red, blue:1.2), c", True),
        ("a, [b, (c:1.1)]", True),
        ("(red:1.2), [blue], ((c))", False),
        (r"a \(b, c\), (d)", False),  # plain signs
        ("a :(, b", False),  # nothing closes it
        ("a), (b", False),
        ("([a), b]", True),
    ],
)
def test_brackets_that_tags_tear_apart_are_found(caption: str, torn: bool) -> None:
    assert brackets_hold_commas(caption) == torn
