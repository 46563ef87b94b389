"""Captions that do not fit into the tokens asked for are told in a run, with what they lose."""

import pytest

from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from library.training.planning.caption_lengths import tell_long_captions


def told(captions: list[str], heard, **settings) -> str:
    tell_long_captions(captions, ClipTokenizer(V1, **settings))
    return heard.text


def test_captions_that_lose_words_are_told_with_the_words(heard):
    text = told(["a dog", "cat " * 75 + "on a sofa", "cat " * 75 + "on a sofa"], heard)
    assert "1 caption is longer" in text and "loses “on a sofa”" in text


def test_nothing_is_told_when_all_captions_fit(heard):
    assert told(["a dog", "cat " * 75 + "on a sofa"], heard, max_token_length=150) == ""


@pytest.mark.parametrize(("length", "remedy"), [(150, "give --max_token_length 225, or shorten them"), (225, "”; shorten them")])
def test_the_remedy_names_only_what_is_longer_than_what_is_set(heard, length, remedy):
    assert told(["cat " * (length + 5)], heard, max_token_length=length).endswith(remedy)
