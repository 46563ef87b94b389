"""The tagger's known answers become the tags that the options ask for; images reach it as it was trained."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune import tag_images_by_wd14_tagger
from library.preparation.tag_choice import read_replacement
from library.preparation.wd14 import Tagger, locate, square
from tests.messages import message, refusal, refusals, refused
from tests.preparation.tiny_tagger import SIDE, TAGS, write_mapped_tagger, write_tagger
from tests.scripts.running import run_in_process

ALWAYS = "o_o, no_humans, some_artist"  # of the tagger's constants over the usual threshold, in the order of its tags


def colour(path: Path, blue: float = 0, green: float = 0, red: float = 0, size: tuple[int, int] = (40, 40)) -> Path:
    """A uniform image whose channels are these shares of 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(round(255 * share) for share in (red, green, blue))).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    colour(tmp_path / "images" / "blue.png", blue=1)
    colour(tmp_path / "images" / "red.png", red=0.8, green=0.3)
    return tmp_path / "images"


def tag(folder: Path, model: Path, *argv: object) -> int:
    return run_in_process(tag_images_by_wd14_tagger.main, folder, "--model_dir", model, *argv)


def tags(folder: Path, name: str = "blue", ending: str = ".txt") -> str:
    text = (folder / f"{name}{ending}").read_text(encoding="utf-8")
    assert text.endswith("\n") and text.count("\n") == 1
    return text.strip()


def test_tags_over_the_threshold_are_written_general_ones_first(folder: Path, model: Path) -> None:
    assert tag(folder, model) == 0
    assert tags(folder) == f"blue_sky, {ALWAYS}, miku_(someone)"
    assert tags(folder, "red") == f"red_rose, {ALWAYS}, miku_(someone)"


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ("--thresh 0.28", f"blue_sky, {ALWAYS}, miku_(someone), faint_name"),
        ("--thresh 0.45", f"blue_sky, {ALWAYS}, miku_(someone)"),  # exactly as sure counts
        ("--thresh 0.95", "blue_sky"),
        ("--general_threshold 0.2", "blue_sky, o_o, no_humans, rare_thing, some_artist, miku_(someone)"),
        ("--character_threshold 0.2", f"blue_sky, {ALWAYS}, miku_(someone), faint_name"),
        ("--thresh 0.2 --general_threshold 0.95 --character_threshold 0.95", "blue_sky"),
        ("--remove_underscore", "blue sky, o_o, no humans, some artist, miku (someone)"),
        ("--undesired_tags no_humans,o_o", "blue_sky, some_artist, miku_(someone)"),
        ("--undesired_tags no_humans;blue_sky --caption_separator ;", "o_o;some_artist;miku_(someone)"),
        ("--use_rating_tags", f"sensitive, blue_sky, {ALWAYS}, miku_(someone)"),
        ("--use_rating_tags_as_last_tag", f"blue_sky, {ALWAYS}, miku_(someone), sensitive"),
        ("--character_tags_first", f"miku_(someone), blue_sky, {ALWAYS}"),
        ("--always_first_tags some_artist,cat,o_o", "some_artist, o_o, blue_sky, no_humans, miku_(someone)"),
        ("--tag_replacement blue_sky,sky;o_o,face", "sky, face, no_humans, some_artist, miku_(someone)"),
        ("--character_threshold 1.1", f"blue_sky, {ALWAYS}"),
        ("--character_tag_expand", f"blue_sky, {ALWAYS}, miku, someone"),
        ("--use_quality_tags", f"blue_sky, {ALWAYS}, miku_(someone)"),  # this tagger knows none
        ("--artist_threshold 0.6", "blue_sky, o_o, no_humans, miku_(someone)"),
        ("--onnx", f"blue_sky, {ALWAYS}, miku_(someone)"),
    ],
)
def test_what_is_written_is_what_the_option_asks_for(folder: Path, model: Path, flags: str, written: str) -> None:
    assert tag(folder, model, *flags.split()) == 0
    assert tags(folder) == written


def test_undesired_tags_may_have_blanks_for_underscores(folder: Path, model: Path) -> None:
    assert tag(folder, model, "--undesired_tags", "no humans, blue sky", "--remove_underscore") == 0
    assert tags(folder) == "o_o, some artist, miku (someone)"


@pytest.mark.parametrize("flag", ["--caption_extension", "--caption_extention"])
def test_the_ending_of_the_files_is_the_users(folder: Path, model: Path, flag: str) -> None:
    assert tag(folder, model, flag, ".tags") == 0
    assert tags(folder, ending=".tags").startswith("blue_sky") and not (folder / "blue.txt").exists()


def test_append_keeps_what_is_there_and_adds_the_rest_and_without_it_the_file_is_replaced(folder: Path, model: Path) -> None:
    (folder / "blue.txt").write_text("mine, blue sky\n", encoding="utf-8")
    assert tag(folder, model, "--append_tags") == 0
    assert tags(folder) == f"mine, blue sky, {ALWAYS}, miku_(someone)"
    assert tag(folder, model) == 0
    assert tags(folder) == f"blue_sky, {ALWAYS}, miku_(someone)"


@pytest.mark.parametrize(
    ("before", "start"),
    [
        ("mine\nsecond line", "mine\nsecond line, blue_sky, "),
        ("mine,\r\nsecond line,\n\n", "mine,\r\nsecond line, blue_sky, "),
        ("mine, blue sky\n\n  a  b\n", "mine, blue sky\n\n  a  b, o_o, no_humans, "),
        ("\n", "blue_sky, "),
    ],
)
def test_append_never_joins_words_of_two_lines(folder: Path, model: Path, before: str, start: str) -> None:
    (folder / "blue.txt").write_text(before, encoding="utf-8", newline="")
    assert tag(folder, model, "--append_tags") == 0
    first = (folder / "blue.txt").read_bytes()
    assert first.decode("utf-8").startswith(start) and first.endswith(b"\n")
    assert tag(folder, model, "--append_tags") == 0
    assert (folder / "blue.txt").read_bytes() == first, "nothing new, nothing written"


def test_a_name_that_is_too_long_is_told_as_such_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    for length in (238, 247, 251):  # with .txt all fit; the name that is written to first has to as well
        shutil.copy(folder / "blue.png", folder / f"{'n' * (length - 4)}.png")
    assert tag(folder, model) == 0 and len(list(folder.glob("n*.txt"))) == 3
    shutil.copy(folder / "blue.png", folder / f"{'か' * 83}.png")
    assert tag(folder, model, "--caption_extension", ".caption") == 1
    error = capsys.readouterr().err
    refusal(error, "PATH-008", folder, "rename it")
    assert "writable" not in error
    assert (folder / "blue.caption").is_file()


def test_a_model_without_its_labels_is_told_by_the_file_that_is_missing(folder: Path, model: Path, tmp_path: Path, capsys) -> None:
    for there, lacks in (("model.onnx", "selected_tags.csv"), ("selected_tags.csv", "model.onnx")):
        half = tmp_path / f"half {there}"
        half.mkdir()
        shutil.copy(model / there, half)
        assert tag(folder, half) == 2
        refusal(capsys.readouterr().err, "TOOL-003", "--model_dir", half, f"has {there} but no {lacks}")


def test_a_model_too_new_for_the_runtime_is_told_as_such(tmp_path: Path) -> None:
    write_tagger(tmp_path / "new")
    data = bytearray((tmp_path / "new" / "model.onnx").read_bytes())
    assert data[0] == 0x08  # field 1, ir_version
    data[1] = 99
    (tmp_path / "new" / "model.onnx").write_bytes(data)
    with refused("TOOL-003", "--model_dir", tmp_path / "new", "ONNX Runtime", "update"):
        Tagger(tmp_path / "new")


def test_frequency_and_debug_print(folder: Path, model: Path, capsys) -> None:
    tag(folder, model)
    assert capsys.readouterr().out == ""
    tag(folder, model, "--frequency_tags", "--undesired_tags", "no_humans")
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "images  tag"
        and "     2  o_o" in lines
        and "     1  blue_sky" in lines
        and not any("no_humans" in line for line in lines)
    )
    tag(folder, model, "--debug")
    shown = capsys.readouterr().out
    assert f"{folder / 'blue.png'}:\n  rating: sensitive\n  character: miku_(someone)\n  general: blue_sky, {ALWAYS}\n" in shown


def test_recursive_takes_the_folders_inside(folder: Path, model: Path) -> None:
    colour(folder / "deep" / "green.png", green=1)
    assert tag(folder, model) == 0
    assert not (folder / "deep" / "green.txt").exists()
    assert tag(folder, model, "--recursive") == 0
    assert tags(folder / "deep", "green").startswith("green_grass")


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("flags", [(), ("--batch_size", 4, "--max_data_loader_n_workers", 2), ("--max_data_loader_n_workers", 0)])
def test_batches_and_threads_change_nothing(folder: Path, tmp_path: Path, batch: int | None, flags: tuple) -> None:
    shades = [(0.4, 0, 0), (0, 0.4, 0), (0, 0, 0.4), (1, 1, 0), (0, 0, 0)]
    for number, shade in enumerate(shades):
        colour(folder / f"{number}.png", *shade)
    assert tag(folder, write_tagger(tmp_path / "tagger", batch=batch), *flags) == 0
    names = ("blue_sky", "green_grass", "red_rose")
    for number, shade in enumerate(shades):
        expected = [name for name, share in zip(names, shade, strict=True) if share]
        assert tags(folder, str(number)) == ", ".join([*expected, ALWAYS, "miku_(someone)"])


def test_an_image_is_padded_to_a_square_on_white_in_its_middle_and_handed_over_as_bgr() -> None:
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[...] = (10, 20, 30)  # red, green, blue
    ready = square(pixels, 40)
    assert ready.shape == (40, 40, 3) and ready.dtype == np.float32
    assert (ready[15:25] == (30, 20, 10)).all()
    assert (ready[:15] == 255).all() and (ready[25:] == 255).all()


def test_hidden_colours_and_exif_rotation_do_not_reach_the_tagger(tmp_path: Path, model: Path) -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (Tagger(model).prepare(tmp_path / "clear.png") == 255).all()
    half = Image.new("RGB", (40, 20), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    half.save(tmp_path / "turned.jpg", exif=exif)
    ready = Tagger(model).prepare(tmp_path / "turned.jpg")
    assert (ready[:, : SIDE // 5] == 255).all() and ready[0, SIDE // 2].max() < 10  # upright: white at its sides


def test_the_size_is_read_from_the_model(tmp_path: Path) -> None:
    tagger = Tagger(write_tagger(tmp_path / "large", side=48))
    assert tagger.size == 48 and tagger.prepare(colour(tmp_path / "a.png")).shape == (48, 48, 3)


def test_batch_size_and_threads_are_those_asked_for(folder: Path, model: Path, monkeypatch) -> None:
    sizes, threads = [], set()
    describe, prepare = Tagger.describe, Tagger.prepare

    def spy_describe(self: Tagger, images: np.ndarray, paths: list[Path]) -> np.ndarray:
        sizes.append(len(images))
        return describe(self, images, paths)

    def spy_prepare(self: Tagger, path: Path) -> np.ndarray:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return prepare(self, path)

    monkeypatch.setattr(Tagger, "describe", spy_describe)
    monkeypatch.setattr(Tagger, "prepare", spy_prepare)
    colour(folder / "third.png", red=1)
    assert tag(folder, model, "--batch_size", 2, "--max_data_loader_n_workers", 1) == 0
    assert (sizes, threads) == ([2, 1], {"read-ahead"})
    sizes.clear(), threads.clear()
    assert tag(folder, model, "--max_data_loader_n_workers", 0) == 0
    assert (sizes, threads) == ([1, 1, 1], {""})  # the main thread


def test_files_that_are_there_are_told_before_they_are_written_anew(folder: Path, model: Path, capsys) -> None:
    (folder / "blue.txt").write_text("mine", encoding="utf-8")
    tag(folder, model, "--append_tags")
    assert "overwritten" not in capsys.readouterr().err
    tag(folder, model)
    message(capsys.readouterr().err, "2 .txt files", "overwritten", "blue.txt, red.txt")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="who may write anywhere")
def test_a_read_only_folder_is_told_once_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    colour(folder / "closed" / "x.png"), colour(folder / "closed" / "y.png")
    (folder / "closed").chmod(0o500)
    assert tag(folder, model, "--recursive") == 1
    (folder / "closed").chmod(0o700)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, ("PATH-005", folder / "closed", "2 files", "Permission denied", "writable"), ("TOOL-001", "2 images"))


def test_images_in_a_folder_without_the_right_to_write_are_not_even_read(folder: Path, model: Path, monkeypatch, capsys) -> None:
    colour(folder / "closed" / "x.png")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("closed") and access(path, mode))
    monkeypatch.setattr(Tagger, "prepare", lambda self, path, own=Tagger.prepare: own(self, path) if path.parent == folder else 1 / 0)
    assert tag(folder, model, "--recursive") == 1
    refusal(capsys.readouterr().err, "PATH-005", folder / "closed", "1 file", "Permission denied")
    assert tag(folder / "closed", model) == 2  # nothing at all could be done
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")], ("PATH-005", "1 file"))


def test_a_broken_image_and_a_file_that_cannot_be_written_are_told_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "blue.txt").mkdir()
    assert tag(folder, model, "--batch_size", 8) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(errors, ("DATA-001", folder / "broken.png"), ("PATH-005", folder, "1 file"), ("TOOL-001", "1 image"))
    assert tags(folder, "red").startswith("red_rose")
    assert sorted(path.name for path in folder.iterdir()) == ["blue.png", "blue.txt", "broken.png", "red.png", "red.txt"]


def test_a_tag_file_in_another_encoding_is_left_alone_with_append(folder: Path, model: Path, capsys) -> None:
    (folder / "blue.txt").write_bytes(b"caf\xe9")
    assert tag(folder, model, "--append_tags") == 1
    refusal(capsys.readouterr().err, "DATA-004", folder / "blue.txt", "UTF-8")
    assert (folder / "blue.txt").read_bytes() == b"caf\xe9"


def test_the_model_is_found_in_a_folder_named_like_its_repository(folder: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "models" / "someone_tagger")
    assert locate(tmp_path / "models", "someone/tagger", force_download=False) == tmp_path / "models" / "someone_tagger"
    assert tag(folder, tmp_path / "models", "--repo_id", "someone/tagger") == 0


@pytest.mark.parametrize("there", [False, True])
def test_what_is_missing_or_asked_for_again_is_downloaded(folder: Path, tmp_path: Path, model: Path, there: bool, monkeypatch) -> None:
    asked = []

    def download(repo_id: str, name: str, local_dir: Path, force_download: bool) -> None:
        asked.append((repo_id, name, force_download))
        shutil.copy(model / name, local_dir / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    own = tmp_path / "models" / "some_one"
    if there:
        shutil.copytree(model, own)
    again = ["--force_download"] if there else []
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one", *again) == 0
    assert asked == [("some/one", "model.onnx", there), ("some/one", "selected_tags.csv", there)]
    assert tags(folder).startswith("blue_sky") and Tagger(own).size == SIDE
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one") == 0 and len(asked) == 2


def test_without_a_network_the_remedy_is_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "saved_model.pb").touch()
    assert tag(folder, tmp_path / "old") == 2
    warning, *_, error = capsys.readouterr().err.splitlines()
    message(warning, tmp_path / "old", "Keras")
    refusal(error, "HUB-004", "--repo_id: SmilingWolf/wd-v1-4-convnext-tagger-v2", "model.onnx", "put model.onnx and selected_tags.csv")


def test_a_model_and_labels_that_do_not_fit_are_refused(tmp_path: Path, model: Path) -> None:
    shutil.copytree(model, tmp_path / "odd")
    shutil.copy(write_tagger(tmp_path / "fewer", TAGS[:5]) / "selected_tags.csv", tmp_path / "odd")
    with refused("TOOL-003", "--model_dir", tmp_path / "odd", f"{len(TAGS)} tags", "selected_tags.csv has 5"):
        Tagger(tmp_path / "odd")
    (tmp_path / "odd" / "selected_tags.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with refused("DATA-026", tmp_path / "odd" / "selected_tags.csv", "name and category"):
        Tagger(tmp_path / "odd")
    (tmp_path / "fewer" / "model.onnx").write_bytes(b"cut")
    with refused("TOOL-003", tmp_path / "fewer" / "model.onnx"):
        Tagger(tmp_path / "fewer")


@pytest.mark.parametrize("there", ["", "models", "models/some_one", "models/some_one/v1"])
def test_a_tagger_that_cannot_be_had_leaves_no_folder(folder: Path, tmp_path: Path, there: str, monkeypatch, capsys) -> None:
    def download(repo_id: str, name: str, local_dir: Path, force_download: bool) -> None:
        (Path(local_dir) / ".cache" / "huggingface" / "download" / "v1").mkdir(parents=True)
        (Path(local_dir) / ".cache" / "huggingface" / ".gitignore").write_text("*", encoding="utf-8")
        raise OSError("no such repository")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one/v1") == 2
    assert sorted(tmp_path.rglob("*")) == before
    refusal(capsys.readouterr().err, "HUB-004", "--repo_id: some/one", "v1/model_optimized.onnx", "no such repository")


def test_the_runtime_is_told_to_report_to_nobody(model: Path) -> None:
    Tagger(model)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_replacements_are_pairs() -> None:
    assert read_replacement("blue_sky,sky;o_o,a\\,b;") == {"blue sky": "sky", "o o": "a,b"}
    with refused("OPT-006", "--tag_replacement", "from1,to1;from2,to2", "'a'"):
        read_replacement("a")


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ("", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_artist, some_model"),
        ("--meta_threshold 0.61", "blue_sky, no_humans, miku_(dress)_(someone), a_series, some_artist, some_model"),
        ("--copyright_threshold 1.1", "blue_sky, no_humans, miku_(dress)_(someone), highres, some_artist, some_model"),
        ("--artist_threshold 0.51", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_model"),
        ("--model_threshold 0.46", "blue_sky, no_humans, miku_(dress)_(someone), highres, a_series, some_artist"),
        ("--thresh 0.9 --model_threshold 0.4", "blue_sky, some_model"),
        ("--thresh 0.9 --use_quality_tags", "masterpiece, blue_sky"),
        ("--thresh 0.9 --use_quality_tags --use_rating_tags", "sensitive, masterpiece, blue_sky"),
        ("--thresh 0.9 --use_quality_tags_as_last_tag", "blue_sky, masterpiece"),
        ("--thresh 0.59 --character_tags_first", "miku_(dress)_(someone), blue_sky, no_humans, highres"),
        ("--thresh 0.62 --character_tag_expand", "blue_sky, no_humans, miku_(dress), someone"),
    ],
)
def test_a_tagger_with_more_kinds_of_tags_writes_those_over_their_thresholds_the_likeliest_first(
    folder: Path, tmp_path: Path, flags: str, written: str
) -> None:
    """The form with a tag_mapping.json, named owner/name/folder; its model wants -1..1, colours first, and gives logits."""
    write_mapped_tagger(tmp_path / "models" / "some_one" / "v1")
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one/v1", *flags.split()) == 0
    assert tags(folder) == written


def test_all_tags_go_into_one_file_where_one_is_named(folder: Path, model: Path, tmp_path: Path) -> None:
    whole, rows = tmp_path / "new" / "all.json", tmp_path / "all.jsonl"
    assert tag(folder, model, "--output_path", whole) == 0 and tag(folder, model, "--output_path", rows) == 0
    assert not list(folder.glob("*.txt"))
    text = f"blue_sky, {ALWAYS}, miku_(someone)"
    assert json.loads(whole.read_text(encoding="utf-8"))[str(folder / "blue.png")] == {"tags": text, "image_size": [40, 40]}
    entries = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert {"image_path": str(folder / "blue.png"), "caption": text, "image_size": [40, 40]} in entries and len(entries) == 2
