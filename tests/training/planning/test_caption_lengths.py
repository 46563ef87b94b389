"""Captions that do not fit into the tokens asked for are reported in a run, with what they lose."""

from pathlib import Path

import pytest

from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from library.options.groups.scripts import TrainingScript, TrainNetwork, TrainTextualInversion
from library.options.reading.parse import parse
from library.training.planning.caption_lengths import long_captions, tell_long_captions
from tests.messages import refused


def told(captions: list[str], heard, **settings) -> str:
    tell_long_captions(captions, ClipTokenizer(V1, **settings))
    return heard.text


def test_captions_that_lose_words_are_told_with_the_words(heard):
    text = told(["a dog", "cat " * 75 + "on a sofa", "cat " * 75 + "on a sofa"], heard)
    assert "1 caption is longer" in text and "loses “on a sofa”" in text


def test_nothing_is_told_when_all_captions_fit(heard):
    assert told(["a dog", "cat " * 75 + "on a sofa"], heard, max_token_length=150) == ""


@pytest.mark.parametrize(("length", "remedy"), [(150, "set --max_token_length 225, or shorten them"), (225, "”; shorten them")])
def test_the_remedy_names_only_what_is_longer_than_what_is_set(heard, length, remedy):
    assert told(["cat " * (length + 5)], heard, max_token_length=length).endswith(remedy)


def looked_for(script: type[TrainingScript], *argv: str) -> list[tuple[str, str]]:
    return long_captions(parse(script, argv), ["shs dog " * 60], V1)


def test_who_only_looks_for_long_captions_fills_no_folder(tmp_path: Path) -> None:
    assert looked_for(TrainNetwork, "--tokenizer_cache_dir", str(tmp_path / "new"))
    assert looked_for(TrainNetwork, "--tokenizer_cache_dir", str(tmp_path.joinpath(*["d" * 200] * 30)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["meta", "DOG", "shs", "a b"])
def test_captions_are_measured_with_a_new_word_that_the_model_knows_already(word: str) -> None:
    assert looked_for(TrainTextualInversion, "--token_string", word)


def test_a_folder_that_takes_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("PATH-005", "--tokenizer_cache_dir", tmp_path / "file" / "x"):
        ClipTokenizer(V1, cache_dir=tmp_path / "file" / "x")
