"""What Textual Inversion and XTI train, what they start from, and the captions that they make."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from library.methods import templates
from library.methods.textual_inversion import TextualInversionMethod, TextualInversionSettings
from library.model.family import V1
from library.model.load import load
from library.model.new_words import embedding_table
from library.model.text.tokenizer import ClipTokenizer
from library.model.text.vocabulary import ENTRIES, words_in
from library.options.groups.textual_inversion import NewWordChoice
from tests.messages import refused

CAT, TOY = 2368, 5988  # ids of words


def attached(path: Path, **changes: object):
    """A method with a word of two vectors on a freshly loaded model."""
    of_method = {name: changes.pop(name) for name in ("by_layer", "template") if name in changes}
    method = TextualInversionMethod(
        TextualInversionSettings([NewWordChoice(**{"text": "<shs>", "vectors": 2, **changes})], 0.1, **of_method)
    )
    model = load(path)
    method.attach(model)
    return method, model


@pytest.mark.parametrize("by_layer", [False, True])
def test_only_the_new_vectors_are_trained_and_kept(tiny_v1: Path, by_layer: bool) -> None:
    method, model = attached(tiny_v1, by_layer=by_layer)
    (group,) = method.param_groups()
    (vectors,) = group["params"]
    assert vectors.shape == (10 if by_layer else 1, 2, 64)
    assert [name for name, parameter in model.text_encoder.named_parameters() if parameter.requires_grad] == [
        "embeddings.token_embedding.word.vectors"
    ]
    assert not any(parameter.requires_grad for part in (model.unet, model.vae) for parameter in part.parameters())
    assert [parameter for module in method.modules() for parameter in module.parameters()] == [vectors]
    assert sum(tensor.numel() for module in method.modules() for tensor in module.state_dict().values()) == vectors.numel()


@pytest.mark.parametrize(
    ("init_word", "vectors", "ids", "warned"),
    [
        ("cat", 1, [CAT], None),
        ("cat", 2, [CAT, CAT], "repeated"),
        ("cat toy", 3, [CAT, TOY, CAT], "repeated"),
        ("cat toy", 1, [CAT], "cut"),
    ],
)
def test_an_init_word_of_another_token_count_is_repeated_or_cut_and_told(
    tiny_v1: Path, init_word: str, vectors: int, ids: list[int], warned: str | None, heard
) -> None:
    method, model = attached(tiny_v1, init_word=init_word, vectors=vectors)
    assert method.words.table.vectors[0].equal(embedding_table(model.text_encoder).table.weight[ids])
    assert (warned in heard.text) if warned else "--init_word" not in heard.text


def test_without_an_init_word_vectors_are_like_those_of_the_vocabulary(tiny_v1: Path) -> None:
    torch.manual_seed(3)
    method, model = attached(tiny_v1, vectors=75)
    table = embedding_table(model.text_encoder).table.weight
    assert float(method.words.table.vectors.detach().std()) == pytest.approx(float(table.std()), rel=0.05)
    assert not method.words.table.vectors[0, 0].equal(method.words.table.vectors[0, 1])


@pytest.mark.parametrize(("by_layer", "suffix"), [(False, ".pt"), (False, ".safetensors"), (True, ".ckpt"), (True, ".safetensors")])
def test_training_goes_on_from_a_saved_file(tiny_v1: Path, tmp_path: Path, by_layer: bool, suffix: str) -> None:
    method, _ = attached(tiny_v1, by_layer=by_layer)
    path = tmp_path / f"word{suffix}"
    method.words.table.vectors.data.normal_()
    (product,) = method.products(suffix.removeprefix("."))
    product.write(path, None, {"ss_steps": "5", "ss_dataset_dirs": "private"})
    again, _ = attached(tiny_v1, by_layer=by_layer, weights=path, init_word="cat")  # which is not used with them
    assert again.words.table.vectors.equal(method.words.table.vectors)
    assert b"private" not in path.read_bytes()
    with refused("LORA-013", "--weights", path, "2 vectors", "--num_vectors_per_token is 1"):
        attached(tiny_v1, by_layer=by_layer, weights=path, vectors=1)
    with refused("LORA-012", path, "train_textual_inversion_XTI.py" if by_layer else "train_textual_inversion.py"):
        attached(tiny_v1, by_layer=not by_layer, weights=path)


def test_embeddings_that_other_programs_wrote_are_gone_on_from(tiny_v1: Path, tmp_path: Path) -> None:
    """The Web UI's, those of the first repository, which kept a ParameterDict, and the concepts library's, named by their word."""
    vectors = torch.randn(2, 64)
    files = {
        "web.pt": {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "shs", "step": 9, "sd_checkpoint": None},
        "first.pt": {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": nn.ParameterDict({"*": nn.Parameter(vectors)})},
        "concept.bin": {"<shs>": vectors},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        method, _ = attached(tiny_v1, weights=tmp_path / name)
        assert method.words.table.vectors[0].equal(vectors), name
    torch.save({"<shs>": vectors[0]}, tmp_path / "one.bin")
    assert attached(tiny_v1, weights=tmp_path / "one.bin", vectors=1)[0].words.table.vectors[0, 0].equal(vectors[0])


def test_an_embedding_of_another_model_and_a_file_of_another_kind_are_told(tiny_v1: Path, tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.zeros(2, 1024)}}, tmp_path / "v2.pt")
    with refused("LORA-013", "--weights", tmp_path / "v2.pt", 1024, 64):
        attached(tiny_v1, weights=tmp_path / "v2.pt")
    with refused("LORA-012", tiny_v1):
        attached(tiny_v1, weights=tiny_v1)


@pytest.mark.parametrize(("kind", "choice"), [("object", templates.OBJECT), ("style", templates.STYLE)])
def test_templates_take_the_place_of_captions_in_loader_workers_too(kind: str, choice: tuple[str, ...]) -> None:
    method = TextualInversionMethod(TextualInversionSettings([NewWordChoice("<shs>")], 0.1, template=kind))
    rewrite = pickle.loads(pickle.dumps(method.rewrite_caption))
    drawn = {rewrite("any caption", random.Random(seed)) for seed in range(500)}
    assert drawn == {line.format("<shs>") for line in choice}
    assert all("<shs>" in line for line in drawn) and len(set(choice)) == len(choice)


def test_without_templates_captions_stay_as_they_are() -> None:
    method = TextualInversionMethod(TextualInversionSettings([NewWordChoice("<shs>")], 0.1))
    assert method.rewrite_caption("my caption", random.Random(1)) == "my caption"


def test_of_several_words_a_template_takes_those_that_the_caption_names() -> None:
    words = [NewWordChoice("<cup>"), NewWordChoice("my-hat"), NewWordChoice("my-hat-two")]
    method = TextualInversionMethod(TextualInversionSettings(words, 0.1, template="object"))
    rewrite = pickle.loads(pickle.dumps(method.rewrite_caption))
    for caption, named in {
        "a <cup> in red": "<cup>",
        "MY-HAT and <cup>": "my-hat and <cup>",
        "my-hat-two, my-hats": "my-hat-two",
    }.items():
        drawn = {rewrite(caption, random.Random(seed)) for seed in range(500)}
        assert drawn == {line.format(named) for line in templates.OBJECT}
    assert rewrite("a plain cup", random.Random(1)) == "a plain cup"


def test_words_are_found_as_the_tokenizer_finds_them() -> None:
    words = ["cat-x", "cat-x2", "cat-x-y", "<b>"]
    reader = ClipTokenizer(V1)
    for place, word in enumerate(words):
        reader = reader.with_word(word, 1, place)
    for caption in ("cat-x", "a Cat-X2 cat-x", "cat-x-y", "cat-xx cat-x.", "<b><b>,cat-x-y,<B>", "a cat", "cat-x_2", "cat-x-y-cat-x"):
        ids = reader(caption)[0][0].tolist()
        words_in_order = [words[entry - ENTRIES] for entry in ids if entry >= ENTRIES]
        assert words_in(caption, words) == list(dict.fromkeys(words_in_order)), caption
