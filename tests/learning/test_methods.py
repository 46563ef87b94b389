"""Each of the other scripts teaches the small model what it is meant to teach, and nothing else; beside the model that was not trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.learning import lessons
from tests.learning.drawing import share
from tests.learning.test_lora import OTHER, SUBJECT, THREE_SEEDS, is_subject, is_what, plain_stars

Learnt = Callable[..., Path]
Drawn = Callable[..., list[Image.Image]]
NEW_WORD = f"a {lessons.WORD} on a white background"
NEW_COLOUR = "a teal square on a yellow background"  # no square was among the teal shapes


@pytest.mark.slow  # fine-tuning, below, teaches a whole model in every run of the tests
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dreambooth_learns_a_subject(seed: int, learnt: Learnt, drawn: Drawn) -> None:
    model = learnt("captions_with_regularization", seed, script=lessons.DREAMBOOTH_BY_CAPTIONS)
    assert share(drawn(None, SUBJECT), is_subject) <= 0.1
    assert share(drawn(model, SUBJECT), is_subject) >= 0.8
    assert share(drawn(model, OTHER), is_what(OTHER)) >= 0.9
    assert plain_stars(drawn, model) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_prior_preservation_keeps_the_class(seed: int, learnt: Learnt, drawn: Drawn) -> None:
    """How much is lost without it depends on the seed; what is learnt of the subject without a word on its ground is not asked here."""
    without, kept = (learnt(way, seed, script=lessons.DREAMBOOTH) for way in ("class_and_identifier", "with_regularization"))
    assert plain_stars(drawn, kept) >= 0.9
    assert plain_stars(drawn, kept) >= plain_stars(drawn, without) + 0.1


@THREE_SEEDS
def test_fine_tuning_learns_a_colours_name_for_shapes_that_it_was_not_shown_in(seed: int, learnt: Learnt, drawn: Drawn) -> None:
    model = learnt("colour_word", seed, script=lessons.FINE_TUNE)
    assert share(drawn(None, NEW_COLOUR), is_what(NEW_COLOUR)) <= 0.1
    assert share(drawn(model, NEW_COLOUR), is_what(NEW_COLOUR)) >= 0.8
    assert share(drawn(model, OTHER), is_what(OTHER)) >= 0.9


@THREE_SEEDS
@pytest.mark.parametrize(
    "script",
    [pytest.param(lessons.INVERSION, id="textual_inversion"), pytest.param(lessons.XTI, id="xti", marks=pytest.mark.slow)],
)
def test_a_word_is_found_for_an_unseen_subject_by_a_model_that_does_not_change(
    script: lessons.Script, seed: int, learnt: Learnt, drawn: Drawn
) -> None:
    word = learnt("captions_with_the_word", seed, script=script)
    plain = "a star on a white background"  # what the word began as
    assert share(drawn(None, plain), is_subject) <= 0.1
    assert share(drawn(word, NEW_WORD), is_subject) >= 0.8
    assert share(drawn(word, OTHER), is_what(OTHER)) >= 0.9


@pytest.mark.parametrize(
    "script",
    [pytest.param(lessons.DREAMBOOTH, id="dreambooth", marks=pytest.mark.slow), pytest.param(lessons.INVERSION, id="textual_inversion")],
)
def test_without_a_learning_rate_nothing_is_learnt(script: lessons.Script, learnt: Learnt, drawn: Drawn) -> None:
    """The control of the tests above. (A rate of exactly 0 is refused.)"""
    way, prompt = ("captions_with_the_word", NEW_WORD) if script is lessons.INVERSION else ("class_and_identifier", SUBJECT)
    assert share(drawn(learnt(way, 1, lessons.untaught(script)), prompt), is_subject) <= 0.1
