"""What the tools do with new words inside a network's file: they are copied, saved next to a model, and can be written in prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gen_img
from networks import check_lora_weights, extract_lora_from_dylora, merge_lora, resize_lora, svd_merge_lora
from tests.messages import message, refusal
from tests.scripts.running import run_in_process
from tests.small_models import write_strong_lora

KEY = "bundle_emb.{}.string_to_param.*"


@pytest.fixture(scope="module")
def lora(tiny_v1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the tiny model that changes much."""
    return write_strong_lora(tmp_path_factory.mktemp("lora") / "plain.safetensors", tiny_v1)


def bundled(lora: Path, path: Path, words: dict[str, torch.Tensor]) -> Path:
    save_file(load_file(lora) | {KEY.format(word): vectors for word, vectors in words.items()}, path)
    return path


def words_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("bundle_emb.")}


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (resize_lora.main, ("--model", "ONE", "--new_rank", "1")),
        (merge_lora.main, ("--models", "ONE")),
        (svd_merge_lora.main, ("--models", "ONE", "--new_rank", "1")),
    ],
)
def test_words_go_along_into_the_new_file(main, argv: tuple[str, ...], lora: Path, tmp_path: Path, heard) -> None:
    one = bundled(lora, tmp_path / "one.safetensors", {"<cup>": torch.randn(2, 64), "my-hat": torch.randn(1, 64).half()})
    new = tmp_path / "made.safetensors"
    assert run_in_process(main, *(one if word == "ONE" else word for word in argv), "--save_to", new) == 0
    after, before = words_of(new), words_of(one)
    assert after.keys() == before.keys() and len(after) == 2
    assert all(after[name].equal(tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items())
    message(heard.lines, "words", "<cup>, my-hat")
    assert len(load_file(new)) == len(load_file(one))


def test_words_of_a_dylora_go_along(lora: Path, tmp_path: Path) -> None:
    one = bundled(lora, tmp_path / "one.safetensors", {"<cup>": torch.randn(2, 64)})
    assert run_in_process(extract_lora_from_dylora.main, "--model", one, "--rank", "1", "--save_to", tmp_path / "made.safetensors") == 0
    assert words_of(tmp_path / "made-1.safetensors").keys() == words_of(one).keys()


def test_of_two_files_with_one_word_the_first_counts_and_that_is_told(lora: Path, tmp_path: Path, heard) -> None:
    first = bundled(lora, tmp_path / "first.safetensors", {"cup-x": torch.zeros(1, 64), "same-x": torch.ones(1, 64)})
    more = {"Cup-x": torch.ones(1, 64), "hat-x": torch.ones(1, 64), "same-x": torch.ones(1, 64)}
    second = bundled(lora, tmp_path / "second.safetensors", more)
    new = tmp_path / "made.safetensors"
    assert run_in_process(merge_lora.main, "--models", first, second, "--concat", "--save_to", new) == 0
    assert words_of(new).keys() == {KEY.format(word) for word in ("cup-x", "same-x", "hat-x")}
    assert not words_of(new)[KEY.format("cup-x")].any()
    message(heard.lines, second, "word Cup-x")
    assert "word same-x" not in heard.text


def test_words_lie_beside_a_model_that_a_network_is_merged_into(lora: Path, tiny_v1: Path, tmp_path: Path, heard) -> None:
    vectors = torch.randn(2, 64)
    one = bundled(lora, tmp_path / "one.safetensors", {"<cup>": vectors, "x/up": torch.randn(1, 64)})
    assert run_in_process(merge_lora.main, "--sd_model", tiny_v1, "--models", one, "--save_to", tmp_path / "m.safetensors") == 0
    with safe_open(tmp_path / "m-cup.safetensors", "pt") as opened:
        assert opened.get_tensor("emb_params").equal(vectors) and opened.metadata()["ss_token_string"] == "<cup>"
    assert not any("bundle_emb" in name for name in load_file(tmp_path / "m.safetensors"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m-cup.safetensors", "m.safetensors", "one.safetensors"]
    message(heard.lines, "one.safetensors", "'x/up'", "left out")
    message(heard.lines, "m-cup.safetensors", "<cup>", "model file")


def test_the_check_names_words_and_programs_that_refuse_them(lora: Path, tmp_path: Path, capsys) -> None:
    one = bundled(lora, tmp_path / "one.safetensors", {"<cup>": torch.randn(2, 64)})
    assert run_in_process(check_lora_weights.main, one) == 0
    said = capsys.readouterr().out
    message(said, "new words", "<cup>")
    message(said, "no   Diffusers (load_lora_weights)", "words")
    assert run_in_process(check_lora_weights.main, lora) == 0
    said = capsys.readouterr().out
    assert "new words" not in said and "yes  Diffusers (load_lora_weights)" in said


def test_the_word_in_a_network_file_draws_what_its_embedding_file_draws(lora: Path, tiny_v1: Path, tmp_path: Path, capsys) -> None:
    vectors = torch.randn(2, 64)
    one = bundled(lora, tmp_path / "one.safetensors", {"cup-x": vectors})
    save_file({"emb_params": vectors}, tmp_path / "cup-x.safetensors")
    quick = ("--ckpt", tiny_v1, "--prompt", "a cup-x", "--W", "64", "--H", "64", "--steps", "2", "--seed", "1", "--outdir")
    beside = ("--textual_inversion_embeddings", tmp_path / "cup-x.safetensors")
    ways = {"inside": (one,), "beside": (lora, *beside), "without": (lora,), "twice": (one, *beside)}
    drawn = {}
    for way, files in ways.items():
        assert run_in_process(gen_img.main, *quick, tmp_path / way, "--network_weights", *files) == 0
        (picture,) = (tmp_path / way).glob("*.png")
        with Image.open(picture) as image:
            drawn[way] = image.tobytes()
    assert drawn["inside"] == drawn["beside"] == drawn["twice"] != drawn["without"]
    save_file({"emb_params": vectors + 1}, tmp_path / "cup-x.safetensors")
    assert run_in_process(gen_img.main, *quick, tmp_path / "no", "--network_weights", one, *beside) == 2
    refusal(capsys.readouterr().err, "MODEL-014", one, "'cup-x'")
