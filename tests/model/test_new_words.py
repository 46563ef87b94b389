"""A new word beside the vocabulary: what the tokenizer, the text encoder and the cross-attentions make of it."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from library.model.bundle import StableDiffusion
from library.model.family import V1
from library.model.load import load
from library.model.new_words import ExtendedTable, NewWord, add_word, cross_attentions, embedding_table
from library.model.text.tokenizer import ENTRIES, ClipTokenizer
from library.model.text.vocabulary import is_entry, is_one_token
from tests.oracles import our_image

WORD = "<Shs>"
XTI_LAYERS = "IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11".split()


@pytest.fixture(scope="module")
def plain_tokenizer() -> ClipTokenizer:
    return ClipTokenizer(V1)


@pytest.mark.parametrize(
    ("word", "entry", "one_token"),
    [("cat", True, True), ("Cat", True, True), ("<|endoftext|>", True, False), ("sks", False, True), ("<shs>", False, False)],
)
def test_entries_are_told_from_new_words_as_the_tokenizer_itself_does(
    word: str, entry: bool, one_token: bool, plain_tokenizer: ClipTokenizer
) -> None:
    assert (is_entry(word), is_one_token(word)) == (entry, one_token)
    grown = copy.deepcopy(plain_tokenizer.tokenizer)
    grown.add_tokens([word.lower()])
    assert len(grown) == (ENTRIES if entry else ENTRIES + 1)
    if not entry:
        assert plain_tokenizer.with_word(word, 1)(f"a {word}")[0][0, 2] == ENTRIES


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a photo of <Shs>", [320, 1125, 539, ENTRIES, ENTRIES + 1]),
        ("A Photo of <SHS>, cat", [320, 1125, 539, ENTRIES, ENTRIES + 1, 267, 2368]),
        ("a photo of <Shs>'s cat", [320, 1125, 539, ENTRIES, ENTRIES + 1, 568, 2368]),
    ],
)
def test_a_new_word_is_read_as_its_vectors_whatever_the_letter_case(
    caption: str, expected: list[int], plain_tokenizer: ClipTokenizer
) -> None:
    ids, _ = plain_tokenizer.with_word(WORD, 2)(caption)
    assert ids[0, 1 : 1 + len(expected)].tolist() == expected and ids[0, 1 + len(expected)] == 49407


def test_a_new_word_is_not_found_inside_other_words(plain_tokenizer: ClipTokenizer) -> None:
    reader = plain_tokenizer.with_word("zqw", 1)
    for caption in ("zqwx", "azqw", "a zqwzqw"):
        assert reader(caption)[0].equal(plain_tokenizer(caption)[0])
    assert ENTRIES in reader("zqw-x")[0]


def test_weights_count_for_every_vector_and_the_reader_can_be_sent_to_workers(plain_tokenizer: ClipTokenizer) -> None:
    reader = pickle.loads(pickle.dumps(plain_tokenizer.with_word(WORD, 3).with_settings(1, weighted=True)))
    ids, weights = reader("a (<Shs>:1.5) cat")
    assert ids[0, :6].tolist() == [49406, 320, ENTRIES, ENTRIES + 1, ENTRIES + 2, 2368]
    assert weights[0, :6].tolist() == [1, 1, 1.5, 1.5, 1.5, 1]
    assert ENTRIES not in plain_tokenizer("<Shs>")[0]


def test_the_extended_table_is_an_enlarged_embedding_without_the_copy() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(ENTRIES, 4).requires_grad_(False)
    word = NewWord(torch.randn(1, 2, 4))
    enlarged = nn.Embedding(ENTRIES + 2, 4, _weight=torch.cat([table.weight, word.vectors[0].detach()]))
    ids = torch.tensor([[3, ENTRIES, ENTRIES + 1, ENTRIES, 0]])
    ours, theirs = ExtendedTable(table, word)(ids), enlarged(ids)
    assert ours.equal(theirs)
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    assert word.vectors.grad[0].allclose(enlarged.weight.grad[ENTRIES:]) and table.weight.grad is None


def test_layers_are_named_as_in_xti_files() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):  # the levels and layers of Stable Diffusion, which diffusers takes when told nothing else
        unet = UNet2DConditionModel(block_out_channels=(32, 32, 32, 32), cross_attention_dim=64)
    assert list(cross_attentions(unet)) == XTI_LAYERS


def _with_word(path: Path, vectors: torch.Tensor) -> StableDiffusion:
    model = load(path)
    add_word(model, WORD, NewWord(vectors))
    return model


def test_the_same_vectors_in_every_layer_make_the_image_of_a_plain_word(tiny_v1: Path) -> None:
    vectors = torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(3))
    layers = len(cross_attentions(load(tiny_v1).unet))
    plain = our_image(_with_word(tiny_v1, vectors), f"a photo of ({WORD}:1.2)")
    assert (plain == our_image(_with_word(tiny_v1, vectors.expand(layers, -1, -1)), f"a photo of ({WORD}:1.2)")).all()


def test_each_cross_attention_reads_its_own_vectors(tiny_v1: Path) -> None:
    model = load(tiny_v1)
    names = list(cross_attentions(model.unet))
    vectors = torch.randn(len(names), 2, 64, generator=torch.Generator().manual_seed(3))
    layered = _with_word(tiny_v1, vectors)
    ids = layered.tokenizer(f"a photo of {WORD}")[0][None]
    seen: dict[str, torch.Tensor] = {}
    for name, attention in cross_attentions(layered.unet).items():
        attention.to_k.register_forward_hook(lambda module, args, output, name=name: seen.update({name: args[0]}))
    layered.unet(torch.zeros(1, 4, 8, 8), 10, layered.encode(ids).context)
    add_word(model, WORD, word := NewWord(vectors[:1]))
    for place, name in enumerate(names):
        word.vectors.data = vectors[place : place + 1]
        assert seen[name].allclose(model.encode(ids).context, atol=1e-5), name


def test_a_text_encoder_with_a_word_keeps_its_own_table(tiny_v1: Path) -> None:
    model = load(tiny_v1)
    table = embedding_table(model.text_encoder).weight
    before = table.clone()
    add_word(model, WORD, NewWord(torch.randn(1, 1, 64)))
    assert embedding_table(model.text_encoder).weight is table and table.equal(before)
    assert replace(model).tokenizer is model.tokenizer
