"""make_captions.py on a tiny BLIP: every option reaches the model, a caption depends on seed and image alone, bad files stop nothing."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetune import make_captions
from library.options.tool_groups.preparation import BLIP
from library.preparation.captioning.blip import Captioner, SeededDraw, Writing
from library.preparation.captioning.blip_weights import weights_named
from tests.data.material import photo, photos
from tests.messages import message, refusals, refused
from tests.preparation.tiny_blip import SIDE, WORDS, write_blip
from tests.scripts.running import run_in_process

SHORT = ("--max_length", 16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos(tmp_path / "images", 4)
    return tmp_path / "images"


def caption(folder: Path, model: Path, *argv: object) -> int:
    return run_in_process(make_captions.main, folder, "--caption_weights", model, *argv)


def captions(folder: Path, ending: str = ".caption") -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.rglob(f"*{ending}"))}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What `generate` is called with."""
    from transformers import BlipForConditionalGeneration

    calls: list[dict] = []
    own = BlipForConditionalGeneration.generate

    def generate(self, **arguments):
        calls.append(arguments)
        return own(self, **arguments)

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", generate)
    return calls


def test_each_image_gets_a_line_of_words_without_the_models_beginning(folder: Path, model: Path) -> None:
    assert caption(folder, model, *SHORT) == 0
    texts = captions(folder)
    assert list(texts) == ["00", "01", "02", "03"] and len(set(texts.values())) > 1
    for text in texts.values():
        assert text.endswith("\n") and text.count("\n") == 1 and set(text.split()) <= set(WORDS) and not text.startswith("a picture of")


def test_the_options_of_sampling_reach_the_model(folder: Path, model: Path, asked: list[dict]) -> None:
    assert caption(folder, model, "--max_length", 20, "--min_length", 9, "--top_p", 0.7, "--batch_size", 3) == 0
    assert [len(call["pixel_values"]) for call in asked] == [3, 1]
    (call, _) = asked
    assert (call["max_length"], call["min_length"], call["num_beams"], call["do_sample"]) == (20, 9, 1, False)
    top_k, top_p, draw = call["logits_processor"]
    assert (top_k.top_k, top_p.top_p, call["repetition_penalty"]) == (50, 0.7, 1.1) and isinstance(draw, SeededDraw)
    assert all(len(text.split()) >= 9 - 4 for text in captions(folder).values())


def test_the_options_of_beam_search_reach_the_model(folder: Path, model: Path, asked: list[dict]) -> None:
    assert caption(folder, model, "--beam_search", "--num_beams", 3, "--max_length", 12) == 0
    assert (asked[0]["num_beams"], asked[0]["do_sample"], "logits_processor" in asked[0]) == (3, False, False)
    assert all(len(text.split()) <= 12 - 4 for text in captions(folder).values())
    once = captions(folder)
    assert caption(folder, model, "--beam_search", "--num_beams", 3, "--max_length", 12, "--seed", 7) == 0
    assert captions(folder) == once  # nothing is drawn


def test_more_beams_find_another_caption(folder: Path, model: Path) -> None:
    caption(folder, model, "--beam_search", *SHORT)
    greedy = captions(folder)
    caption(folder, model, "--beam_search", "--num_beams", 4, *SHORT)
    assert captions(folder) != greedy


def test_the_defaults_are_those_that_users_know(folder: Path, model: Path, asked: list[dict]) -> None:
    assert caption(folder, model) == 0
    call = asked[0]
    assert (call["max_length"], call["min_length"], call["logits_processor"][1].top_p, len(asked)) == (75, 5, 0.9, 4)


def test_a_drawn_caption_depends_on_the_seed_and_its_image_alone(folder: Path, model: Path) -> None:
    caption(folder, model, *SHORT)
    alone = captions(folder)
    caption(folder, model, *SHORT, "--seed", 42)
    assert captions(folder) == alone
    (folder / "00.png").unlink()
    (folder / "00.caption").unlink()
    caption(folder, model, *SHORT, "--batch_size", 3, "--max_data_loader_n_workers", 2)
    assert captions(folder) == {name: text for name, text in alone.items() if name != "00"}
    caption(folder, model, *SHORT, "--seed", 1)
    assert captions(folder) != {name: text for name, text in alone.items() if name != "00"}


def test_captions_are_those_of_the_model_that_is_named(folder: Path, model: Path, tmp_path: Path) -> None:
    caption(folder, model, "--beam_search", *SHORT)
    first = captions(folder)
    another = write_blip(tmp_path / "another", seed=1)
    assert run_in_process(make_captions.main, folder, "--caption_weights", another, "--beam_search", *SHORT) == 0
    assert captions(folder) != first


@pytest.mark.parametrize(("workers", "readers"), [(0, {""}), (1, {"read-ahead"})])
def test_images_are_read_by_the_threads_asked_for(folder: Path, model: Path, workers: int, readers: set[str], monkeypatch) -> None:
    threads = set()
    prepare = Captioner.prepare

    def spy(self: Captioner, path: Path) -> np.ndarray:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return prepare(self, path)

    monkeypatch.setattr(Captioner, "prepare", spy)
    assert caption(folder, model, *SHORT, "--max_data_loader_n_workers", workers) == 0
    assert threads == readers  # "" is the main thread


def test_the_seeded_draw_follows_the_probabilities() -> None:
    scores = torch.log(torch.tensor([0.1, 0.6, 0.3])).repeat(4000, 1)
    scores = torch.cat([scores, torch.full((4000, 1), -torch.inf)], dim=1)
    drawn = SeededDraw(range(4000))(None, scores).argmax(dim=1).bincount(minlength=4) / 4000
    assert torch.allclose(drawn, torch.tensor([0.1, 0.6, 0.3, 0.0]), atol=0.03)


def test_debug_prints_each_caption_and_the_ending_is_the_users(folder: Path, model: Path, capsys) -> None:
    assert caption(folder, model, *SHORT, "--caption_extension", ".txt", "--debug") == 0
    texts = captions(folder, ".txt")
    assert capsys.readouterr().out == "".join(f"{folder / f'{name}.png'}: {text}" for name, text in texts.items())
    assert not captions(folder)
    assert caption(folder, model, *SHORT, "--caption_extention", ".cap") == 0
    assert captions(folder, ".cap") == texts


def test_recursive_takes_the_folders_inside(folder: Path, model: Path) -> None:
    photo(folder / "deep" / "x.png")
    assert caption(folder, model, *SHORT) == 0 and "x" not in captions(folder)
    assert caption(folder, model, *SHORT, "--recursive") == 0 and "x" in captions(folder)


def test_an_image_is_prepared_as_the_models_settings_say(model: Path, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (20, 60), (255, 102, 0)).save(tmp_path / "orange.png")
    captioner = Captioner(str(model), Writing(), tmp_path)
    white, orange = captioner.prepare(tmp_path / "clear.png"), captioner.prepare(tmp_path / "orange.png")
    assert white.shape == (3, SIDE, SIDE)
    np.testing.assert_allclose(white[:, 3, 5], (1 - np.array([0.5, 0.4, 0.3])) / [0.2, 0.25, 0.3], rtol=1e-5)
    np.testing.assert_allclose(orange[:, 0, 0], (np.array([1, 0.4, 0]) - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3], rtol=1e-5, atol=1e-6)


def test_a_broken_image_and_a_file_that_cannot_be_written_are_told_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    (folder / "01.png").write_bytes(b"no image")
    (folder / "02.caption").mkdir()
    assert caption(folder, model, *SHORT, "--batch_size", 4) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(errors, ("DATA-001", folder / "01.png", "not an image"), ("PATH-005", folder, "1 file"), ("TOOL-001", "2 images"))
    assert (folder / "00.caption").is_file() and (folder / "03.caption").is_file()


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["--min_length", "9", "--max_length", "8"], ("OPT-008", "--min_length: 9", "--max_length 8")),
        (["--max_length", "3", "--min_length", "0"], ("TOOL-004", "--max_length: 3", "at least 5")),
        (["--max_length", "500"], ("TOOL-004", "--max_length: 500", "96 tokens")),
        (["--caption_weights", "{empty}"], ("TOOL-003", "--caption_weights: {empty}")),
        (["--caption_weights", "{empty}/x.pth"], ("PATH-001", "--caption_weights: {empty}/x.pth")),
        (["--caption_weights", "someone/not-there"], ("TOOL-003", "--caption_weights: someone/not-there")),
        (["--caption_extension", ".png"], ("OPT-006", "--caption_extension", ".png")),
        (["--batch_size", "0"], ("OPT-006", "--batch_size", 1, "not 0")),
    ],
)
def test_wrong_input_is_one_line(folder: Path, model: Path, tmp_path: Path, argv: list[str], asked: tuple[object, ...], capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert caption(folder, model, *(word.format(empty=tmp_path / "empty") for word in argv)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, tuple(str(name).format(empty=tmp_path / "empty") for name in asked))
    assert not captions(folder)


def test_the_weights_that_users_know_mean_the_same_model_on_the_hub(tmp_path: Path) -> None:
    address = "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/"
    assert weights_named(address + "model_large_caption.pth") == BLIP
    assert weights_named(address + "model_base_caption_capfilt_large.pth") == "Salesforce/blip-image-captioning-base"
    assert weights_named("someone/model") == "someone/model" and weights_named(str(tmp_path)) == str(tmp_path)
    for wrong, code in (("https://example.org/x.pth", "TOOL-003"), ("model_large_caption.pth", "PATH-001"), ("some/long/path", "PATH-001")):
        with refused(code, "--caption_weights", wrong):
            weights_named(wrong)


def test_a_folder_without_a_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    with refused("TOOL-003", "--caption_weights", tmp_path, "tokenizer"):
        Captioner(str(tmp_path), Writing(), tmp_path)


def test_options_without_effect_are_told(folder: Path, model: Path, capsys) -> None:
    caption(folder, model, *SHORT, "--num_beams", 2)
    message(capsys.readouterr().err, "--num_beams", "--beam_search")
    caption(folder, model, *SHORT, "--beam_search", "--top_p", 0.5)
    message(capsys.readouterr().err, "--top_p", "--beam_search")
