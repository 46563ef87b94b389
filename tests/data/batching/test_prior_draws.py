"""Which draws preserve what the model knows, and their text: by their seeds alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from library.caption_rewriting import keep_caption
from library.data.batching.captions import Position
from library.data.batching.prior_draws import DrawnText, drawn_caption, has_words, longest_prompts, prior_text
from library.data.batching.sampler import EpochSampler
from library.data.config.blueprint import SubsetOptions
from library.training.planning.prior_plan import with_prior
from tests.data.material import filled, photo
from tests.messages import message, refused


def folder_of(folder: Path, captions: list[str]) -> Path:
    folder.mkdir()
    for number, caption in enumerate(captions):
        photo(folder / f"{number}.png", (64, 64), number)
        (folder / f"{number}.caption").write_text(caption, encoding="utf-8")
    return folder


def draws(tmp_path: Path, keys: str, weight: float | None = 0.5, epochs: int = 40) -> list[tuple[DrawnText, bool]]:
    """Every draw of some epochs, and whether its image is a regularization image."""
    data = filled(tmp_path, "[[datasets]]\nresolution = 64\n" + keys)
    data = with_prior(data, weight)
    sampler = EpochSampler(data, 7)
    requests = [request for epoch in range(epochs) for batch in sampler.epoch(epoch) for request in batch]
    return [(drawn_caption(data, one, Position(one.epoch), keep_caption), data.records[one.record].subset.is_reg) for one in requests]


def test_a_share_of_the_draws_by_their_seeds_has_the_prompt_and_the_others_their_captions(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "dog", ["a sks dog", "sks dog, grass"])
    prompts = "['dog', 'a {old|young} dog']"
    keys = f"[[datasets.subsets]]\nimage_dir = '{folder}'\nnum_repeats = 5\nprior_prompt = {prompts}\nprior_share = 0.3\n"
    texts = [text for text, _ in draws(tmp_path, keys)]
    prior = [text.text for text in texts if text.is_prior]
    assert 0.2 < len(prior) / len(texts) < 0.4
    assert set(prior) == {"dog", "a old dog", "a young dog"}
    assert {text.text for text in texts if not text.is_prior} == {"a sks dog", "sks dog, grass"}
    assert texts == [text for text, _ in draws(tmp_path, keys)]
    assert not any(text.is_prior for text, _ in draws(tmp_path, keys, weight=None))


def test_regularization_images_all_are_with_their_own_captions(tmp_path: Path) -> None:
    dog, dogs = folder_of(tmp_path / "dog", ["sks dog"]), folder_of(tmp_path / "dogs", ["a brown dog"])
    keys = f"[[datasets.subsets]]\nimage_dir = '{dog}'\nprior_share = 0\n[[datasets.subsets]]\nimage_dir = '{dogs}'\nis_reg = true\n"
    texts = draws(tmp_path, keys)
    assert {(text.text, text.is_prior, is_reg) for text, is_reg in texts} == {("sks dog", False, False), ("a brown dog", True, True)}


def test_a_caption_of_the_class_without_the_identifier_always_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "dog", ["a sks dog", "a dog on grass", "a hot dogma", "a cat"])
    subset = f"[[datasets.subsets]]\nimage_dir = '{folder}'\nprior_prompt = 'dog'\nprior_identifier = 'sks dog'\nprior_share = 0\n"
    texts = {text for text, _ in draws(tmp_path, subset)}
    assert {text.text for text in texts if text.is_prior} == {"a dog on grass"}


@pytest.mark.parametrize(
    ("caption", "keys", "expected"),
    [
        ("a photo of sks dog on grass", {"prior_identifier": "sks"}, "a photo of dog on grass"),
        ("a photo of SKS  dog", {"prior_identifier": "sks dog", "prior_prompt": ("a dog",)}, "a photo of a dog"),
        ("sks, dog, grass, sks", {"prior_identifier": "sks"}, "dog, grass"),
        ("a masks dog", {"prior_identifier": "sks"}, "a masks dog"),
        ("dog,  grass", {"prior_identifier": "sks"}, "dog,  grass"),
        ("a photo of sks dog", {"prior_prompt": ("dog",)}, "dog"),
        ("a c++ program", {"prior_identifier": "c++"}, "a program"),
        ("sks dog", {"prior_identifier": "sks dog"}, ""),
        ("sks dog", {"prior_identifier": "sks", "prior_prompt": (r"\1 dog",)}, r"\1 dog dog"),
    ],
)
def test_the_identifier_goes_and_the_rest_stays(caption: str, keys: dict, expected: str) -> None:
    assert prior_text(caption, replace(SubsetOptions(), **keys), 1) == expected


def test_words_stand_by_themselves() -> None:
    assert has_words("a Sks dog", "sks") and not has_words("masks", "sks") and has_words("sks-dog", "sks")


def test_the_longest_form_of_a_prompt_is_what_is_measured() -> None:
    assert longest_prompts(replace(SubsetOptions(), prior_prompt=("a {b|ccc} d",))) == ["a ccc d"]


def test_keys_without_the_option_are_told_and_faults_with_it_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "dog", ["a sks dog"])
    data = filled(tmp_path, f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{folder}'\nprior_identifier = 'zorb'\n")
    without = with_prior(data, None)
    assert without.prior_from_base is None
    message(without.findings[-1:], "prior_identifier", "--prior_from_base")
    with refused("CFG-010", "datasets[0].subsets[0]", "prior_identifier 'zorb'", "--prior_prompt"):
        with_prior(data, 1.0)
