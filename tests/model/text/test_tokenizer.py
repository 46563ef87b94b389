"""The tokenizer: CLIP's ids, windows of 75, what is lost, no network."""

from __future__ import annotations

import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from library.model.family import FAMILIES, V1, V2
from library.model.text.tokenizer import ENTRIES, ClipTokenizer, build_tokenizer, too_long
from library.model.text.vocabulary import WORD_END, surely_fits, vocabulary
from tests.messages import refused

CAT = [49406, 320, 1125, 539, 320, 2368, 49407]  # "a photo of a cat", published with OpenAI's CLIP
LONG = " ".join(["a photo of a cat"] * 20) + " and a zebra"  # 103 tokens


@pytest.fixture(scope="module")
def transformers_own():
    return {version: build_tokenizer(FAMILIES[version].text_encoders[0].padding) for version in ("v1", "v2")}


@pytest.mark.parametrize(("version", "padding"), [("v1", 49407), ("v2", 0)])
def test_a_caption_becomes_clips_own_ids_padded_as_each_version_was_trained(version, padding):
    ids, weights = ClipTokenizer(FAMILIES[version])("a photo of a cat")
    assert ids.tolist() == [CAT + [padding] * 70]
    assert weights is None


def test_the_vocabulary_has_all_entries(transformers_own):
    assert all(len(tokenizer) == ENTRIES for tokenizer in transformers_own.values())
    vocabulary = transformers_own["v1"].get_vocab()
    assert (vocabulary["!"], vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (0, 49406, 49407)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("length", [None, 150, 225])
@pytest.mark.parametrize("caption", ["", "a photo of a cat", LONG, "cat " * 75, "cat " * 300])
def test_long_captions_are_cut_in_windows_of_75_with_their_own_begin_and_end(version, length, caption, transformers_own):
    ids, _ = ClipTokenizer(FAMILIES[version], length)(caption)
    count = (length or 75) // 75
    assert ids.shape == (count, 77)
    bare = transformers_own[version](caption, add_special_tokens=False)["input_ids"]
    for window, row in enumerate(ids.tolist()):
        part = bare[window * 75 : window * 75 + 75]
        assert row[: len(part) + 2] == [49406, *part, 49407]
        assert set(row[len(part) + 2 :]) <= {49407 if version == "v1" else 0}


def test_the_words_that_do_not_fit_are_told():
    assert ClipTokenizer(V1).lost_words("a photo of a cat") == ""
    assert ClipTokenizer(V1).lost_words("cat " * 75 + "Two Zebras") == "Two Zebras"
    assert ClipTokenizer(V1, 150).lost_words(LONG) == ""
    assert ClipTokenizer(V1, weighted=True).lost_words("cat " * 74 + "(blue zebras:1.2) and [more]") == "zebras and more"


def test_weighted_captions_carry_a_weight_for_each_token():
    ids, weights = ClipTokenizer(V1, weighted=True)("a (photo of:1.5) a [cat]")
    assert ids[0, :7].tolist() == CAT
    assert weights[0, :8].tolist() == pytest.approx([1, 1, 1.5, 1.5, 1, 1 / 1.1, 1, 1])
    assert weights.shape == (1, 77)


def test_unweighted_captions_keep_their_brackets_as_text():
    ids, weights = ClipTokenizer(V1)("(a:1.2)")
    assert weights is None
    assert ids[0, 2].item() == 320 and ids[0, 1].item() != 320


def test_it_can_be_sent_to_a_loader_worker():
    tokenizer = ClipTokenizer(V2, 150, weighted=True)
    twin = pickle.loads(pickle.dumps(tokenizer))
    assert twin(LONG)[0].equal(tokenizer(LONG)[0])


def test_a_cache_folder_keeps_the_tokenizer_and_is_read_again(tmp_path):
    first = ClipTokenizer(V1, cache_dir=tmp_path)
    assert (tmp_path / "openai_clip-vit-large-patch14").is_dir()
    again = ClipTokenizer(V1, cache_dir=tmp_path)
    assert again(LONG)[0].equal(first(LONG)[0])


def test_a_cache_folder_without_a_whole_vocabulary_is_an_error(tmp_path):
    (tmp_path / "openai_clip-vit-large-patch14").mkdir()
    with refused("MODEL-013", "--tokenizer_cache_dir"):
        ClipTokenizer(V1, cache_dir=tmp_path)


@pytest.mark.parametrize("weighted", [False, True])
def test_long_captions_are_those_that_lose_words(weighted):
    """Counted word by word, which must agree with reading whole captions."""
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefgh'é7", k=rng.randint(1, 9))) for _ in range(200)] + ["(red:1.2)", "[old]", "犬", "a-b", "x,y"]
    captions = [", ".join(rng.choices(words, k=rng.randint(5, 40))) for _ in range(150)]
    tokenizer = ClipTokenizer(V1, weighted=weighted)
    expected = [(caption, lost) for caption in captions if (lost := tokenizer.lost_words(caption))]
    assert too_long(captions, tokenizer) == expected and 20 < len(expected) < 130


def test_what_surely_fits_does_and_most_of_what_fits_surely_does():
    """Counted without a tokenizer: never fewer tokens than the tokenizer finds."""
    rng = random.Random(5)
    words = "a photo of grass sky standing blurry 1girl score_9 it's don't (red:1.2) x,y -- !!! <lora:a:1> qwx 2024 hund é 犬".split()
    captions = [", ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(300)] + ["", " ", "'s 's", "A PHOTO", "\x1c\t\u00a0 b"]
    tokenizer = ClipTokenizer(V1)
    needed = dict(zip(captions, tokenizer.count_each(captions), strict=True))
    for room in (5, 40, 75, 150):
        sure = {caption for caption in captions if surely_fits(caption, room)}
        assert all(needed[caption] <= room for caption in sure)
        plain = [caption for caption in captions if caption.isascii() and needed[caption] <= room]
        assert len(sure) > 0.8 * len(plain)


def test_every_word_that_is_an_entry_is_one_token():
    """Or `surely_fits` would count too few."""
    words = [entry.removesuffix(WORD_END) for entry in vocabulary() if entry.endswith(WORD_END)]
    words = [word for word in words if re.fullmatch("[a-z]+|[0-9]|[^\\sa-z0-9]+", word) and word.isascii()]
    counts = ClipTokenizer(V1).count_each(words)
    assert len(words) > 20_000 and [word for word, count in zip(words, counts, strict=True) if count != 1] == []


def test_the_tokenizer_tells_lost_words_without_torch():
    code = "import sys; from library.model.family import V1; from library.model.text.tokenizer import *; "
    code += "print(too_long(['cat ' * 80], ClipTokenizer(V1))[0][1], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout.split() == ["cat"] * 5 + ["False"], done.stderr


def test_text_after_the_last_window_is_lost_whatever_its_weight():
    tokenizer = ClipTokenizer(V1, 75, weighted=True)
    assert tokenizer.lost_words("(dog:1.1) " * 100 + "(zebra:1.5)").split() == ["dog"] * 25 + ["zebra"]
