"""Captions that do not fit into the tokens asked for are told in a run, with what they lose."""

from library.model.tokenizer import ClipTokenizer
from library.training.caption_lengths import tell_long_captions


def told(captions: list[str], heard, **settings) -> str:
    tell_long_captions(captions, ClipTokenizer("v1", **settings))
    return heard.text


def test_captions_that_lose_words_are_told_with_the_words(heard):
    text = told(["a dog", "cat " * 75 + "on a sofa", "cat " * 75 + "on a sofa"], heard)
    assert "1 captions are longer" in text and "loses “on a sofa”" in text


def test_nothing_is_told_when_all_captions_fit(heard):
    assert told(["a dog", "cat " * 75 + "on a sofa"], heard, max_token_length=150) == ""
