"""make_captions_by_git.py on a tiny GIT: captions are those of transformers' own loop, every option acts, bad files stop nothing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetune import make_captions_by_git
from library.options.declare import build
from library.options.tool_groups.preparation import MakeCaptionsByGit
from library.preparation.captioning.git import GitCaptioner, without_writing
from tests.data.material import photo, photos
from tests.messages import message, refusal
from tests.preparation.tiny_git import SIDE, write_git
from tests.scripts.running import run_in_process


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_git(tmp_path_factory.mktemp("git"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos(tmp_path / "images", 4)
    return tmp_path / "images"


def caption(folder: Path, model: Path, *argv: object) -> int:
    return run_in_process(make_captions_by_git.main, folder, "--model_id", model, *argv)


def captions(folder: Path, ending: str = ".caption") -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.rglob(f"*{ending}"))}


def greedy(model: Path, pixels: np.ndarray, length: int) -> list[int]:
    """The most likely word after each beginning, the model run again for each."""
    from transformers import GitForCausalLM

    git = GitForCausalLM.from_pretrained(model).eval()
    ids = [2]
    with torch.inference_mode():
        while len(ids) < length and ids[-1] != 3:
            logits = git(input_ids=torch.tensor([ids]), pixel_values=torch.from_numpy(pixels)[None]).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids


def test_captions_are_the_likeliest_words_alone_or_in_a_batch(folder: Path, model: Path) -> None:
    assert caption(folder, model, "--max_length", 8) == 0
    alone = captions(folder)
    captioner = GitCaptioner(str(model), 8)
    for name, text in alone.items():
        ids = greedy(model, captioner.prepare(folder / f"{name}.png"), 8)
        assert text == captioner.tokenizer.decode(ids, skip_special_tokens=True) + "\n"
    assert caption(folder, model, "--max_length", 8, "--batch_size", 3, "--max_data_loader_n_workers", 2) == 0
    assert captions(folder) == alone


def test_captions_are_those_of_the_model_that_is_named_and_as_long_as_asked_for(folder: Path, model: Path, tmp_path: Path) -> None:
    assert caption(folder, model, "--max_length", 6) == 0
    short = captions(folder)
    assert all(len(text.split()) <= 5 for text in short.values())
    assert caption(folder, write_git(tmp_path / "other", seed=5), "--max_length", 6) == 0
    assert captions(folder) != short
    assert build(MakeCaptionsByGit, {}, {}).model.max_length == 50


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('a cat with the words "hello there" on it in a garden', "a cat in a garden"),
        ("a dog has the name rex on the collar", "a dog"),
        ("a girl with a sign that says hello on it", "a girl"),
        ("a shirt that says 'i'm here' in red", "a shirt in red"),
        ("a car with the number 5 on it", "a car"),
        ('a cup with the words "', "a cup"),
        ("a house in the sun", "a house in the sun"),
    ],
)
def test_what_is_said_of_writing_is_left_out(before: str, after: str) -> None:
    assert without_writing(before) == after


def test_remove_words_acts_and_debug_prints_both(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(GitCaptioner, "describe", lambda self, images, paths: ["a cat that says hello"] * len(images))
    assert caption(folder, model, "--caption_extension", ".txt") == 0
    assert set(captions(folder, ".txt").values()) == {"a cat that says hello\n"} and capsys.readouterr().out == ""
    assert caption(folder, model, "--caption_extension", ".txt", "--remove_words", "--debug") == 0
    assert set(captions(folder, ".txt").values()) == {"a cat\n"}
    message(capsys.readouterr().out, folder / "00.png", "a cat that says hello")


def test_recursive_takes_the_folders_inside(folder: Path, model: Path) -> None:
    photo(folder / "deep" / "x.png")
    assert caption(folder, model, "--max_length", 4) == 0 and "x" not in captions(folder)
    assert caption(folder, model, "--max_length", 4, "--recursive") == 0 and "x" in captions(folder)


def test_an_image_is_prepared_as_transformers_does(model: Path, tmp_path: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    path = photo(tmp_path / "wide.png", (90, 50))
    prepared = GitCaptioner(str(model), 8).prepare(path)
    processor = CLIPImageProcessorPil.from_pretrained(model)
    expected = processor(images=Image.open(path), return_tensors="np").pixel_values[0]
    assert prepared.shape == (3, SIDE, SIDE)
    np.testing.assert_allclose(prepared, expected, atol=0.03)  # of a step of 1/255 in the scaled image


def test_wrong_input_is_one_line(folder: Path, model: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for argv, asked in (
        ((folder, tmp_path / "empty"), ("TOOL-003", "--model_id", tmp_path / "empty")),
        ((folder, model, "--max_length", 900), ("TOOL-004", "--max_length: 900", "64 tokens")),
        ((folder, model, "--caption_extension", "txt"), ("OPT-006", "--caption_extension", "'txt'", ".txt")),
        ((tmp_path / "empty", model), ("DATA-003", tmp_path / "empty")),
    ):
        assert caption(*argv) == 2
        refusal(capsys.readouterr().err, *asked)


class Code:
    """Unpickling it would create a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("inside", [True, False])
def test_weights_with_code_are_refused_without_torchs_advice(folder: Path, model: Path, tmp_path: Path, inside: bool, capsys) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / "model.safetensors").unlink()
    torch.save({"a": Code(tmp_path / "made")}, other / "pytorch_model.bin")
    given = other if inside else other / "pytorch_model.bin"
    assert caption(folder, given) == 2
    said = capsys.readouterr().err
    refusal(said, "TOOL-003", "--model_id", given, "code" if inside else "a file")
    assert "weights_only" not in said and not (tmp_path / "made").exists()


def test_a_broken_image_is_told_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    (folder / "01.png").write_bytes(b"no image")
    assert caption(folder, model, "--max_length", 4) == 1
    assert set(captions(folder)) == {"00", "02", "03"} and "01.png" in capsys.readouterr().err


@pytest.mark.parametrize("settings", ["[1, 2]", "3", '"git"', '{"model_type": "git", "hidden_size": [1]}', '{"vision_config": 3}', "{"])
def test_settings_of_any_shape_are_refused_in_one_line(
    folder: Path, tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text(settings, encoding="utf-8")
    assert caption(folder, damaged) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "error: --model_id: " in line and "cannot be loaded" in line and line.endswith("[SD-TOOL-003]")], (
        lines
    )
    assert not captions(folder)
