"""Two words in one run, and a word beside a LoRA: each draws its own subject; beside runs that cannot learn, and the LoRA alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.judge import Seen
from tests.learning import lessons
from tests.learning.drawing import share
from tests.learning.test_lora import OTHER, SUBJECT, is_subject, is_what

Learnt = Callable[..., Path]
Drawn = Callable[..., list[Image.Image]]
NEW_WORD = f"a {lessons.WORD} on a red background"
STAR, CIRCLE = (f"a {word} on a white background" for word in (lessons.WORD, lessons.OTHER_WORD))


def teal(shape: str) -> Callable[[Seen], bool]:
    return lambda seen: (seen.colour, seen.shape) == ("teal", shape)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_words_that_begin_alike_draw_each_its_own_subject(seed: int, learnt: Learnt, drawn: Drawn) -> None:
    words = learnt("two_subjects", seed, script=lessons.TWO_WORDS)
    assert share(drawn(words, STAR), teal("star")) >= 0.8 and share(drawn(words, STAR), teal("circle")) <= 0.1
    assert share(drawn(words, CIRCLE), teal("circle")) >= 0.8 and share(drawn(words, CIRCLE), teal("star")) <= 0.1
    assert share(drawn(words, OTHER), is_what(OTHER)) >= 0.9


@pytest.mark.slow
def test_without_a_learning_rate_two_words_draw_what_they_began_as(learnt: Learnt, drawn: Drawn) -> None:
    words = learnt("two_subjects", 1, script=lessons.untaught(lessons.TWO_WORDS))
    for prompt in (STAR, CIRCLE):
        assert share(drawn(words, prompt), lambda seen: seen.colour == "teal") <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_word_beside_a_lora_learns_the_subject_in_fewer_updates_than_the_lora_alone(seed: int, learnt: Learnt, drawn: Drawn) -> None:
    """At 25 updates of either, at which the LoRA has not learnt it yet; at 50 both have."""
    alone = learnt("captions", seed, script=replace(lessons.LORA, updates=25))
    both = learnt("captions_with_the_word", seed, script=replace(lessons.PIVOTAL, updates=25))
    of_lora, of_both = share(drawn(alone, SUBJECT), is_subject), share(drawn(both, NEW_WORD), is_subject)
    assert of_both >= 0.8 and of_both >= of_lora + 0.2
    assert share(drawn(both, OTHER), is_what(OTHER)) >= 0.9
