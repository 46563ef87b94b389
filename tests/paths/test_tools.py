"""Tools over what cannot be opened, beyond their options: a refusal leaves nothing behind, and a part of a name stays one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from finetune import make_captions, merge_captions_to_metadata, tag_images_by_wd14_tagger
from library.console import EXIT_FAULT, run_script
from library.preparation.wd14 import MODEL
from tests.messages import message, refusal
from tests.paths.wrong_places import CODES, another_user, in_time, made
from tools import config_from_run, convert_diffusers20_original_sd, resize_images_to_resolution

posix = pytest.mark.skipif(os.name == "nt", reason="pipes have no names in folders there")


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with in_time(60):
        yield


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    with made() as folders:
        yield folders


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (160, 160)).save(folder / name)
    (folder / "c.caption").write_text("a dog", encoding="utf-8")
    return folder


def tag(images: Path, model: Path, monkeypatch: pytest.MonkeyPatch, partly: bool = False) -> int:
    """Start the tagger where nothing can be downloaded, or a part of it."""

    def download(repo_id: str, name: str, local_dir: Path, force_download: bool) -> None:
        cache = Path(local_dir) / ".cache" / "huggingface" / "download"
        cache.mkdir(parents=True)
        (cache.parent / ".gitignore").write_text("*", encoding="utf-8")
        (cache / "part.incomplete").write_bytes(b"half" if partly else b"")
        raise OSError("not a network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return run_script(tag_images_by_wd14_tagger.main, [str(images), "--model_dir", str(model)])


def test_a_tagger_that_cannot_be_downloaded_leaves_no_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tag(images, tmp_path / "new" / "taggers", monkeypatch) == EXIT_FAULT
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_there_and_half_a_download_stay(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taggers").mkdir()
    (tmp_path / "taggers" / "own.txt").touch()
    assert tag(images, tmp_path / "taggers", monkeypatch) == EXIT_FAULT
    assert [path.name for path in (tmp_path / "taggers").iterdir()] == ["own.txt"]
    assert tag(images, tmp_path / "other", monkeypatch, partly=True) == EXIT_FAULT
    assert list((tmp_path / "other").rglob("part.incomplete"))


@posix
def test_a_tagger_that_is_a_pipe_is_one_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tagger").mkdir()
    os.mkfifo(tmp_path / "tagger" / MODEL)
    assert run_script(tag_images_by_wd14_tagger.main, [str(images), "--model_dir", str(tmp_path / "tagger")]) == EXIT_FAULT
    refusal(capsys.readouterr().err, "PATH-007", "--model_dir", tmp_path / "tagger" / MODEL, "named pipe")


@posix
def test_a_captioning_model_with_a_pipe_in_it_is_one_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "blip").mkdir()
    os.mkfifo(tmp_path / "blip" / "config.json")
    assert run_script(make_captions.main, [str(images), "--caption_weights", str(tmp_path / "blip")]) == EXIT_FAULT
    refusal(capsys.readouterr().err, "PATH-007", tmp_path / "blip/config.json", "named pipe")


@posix
def test_images_and_captions_that_are_pipes_are_passed_over(images: Path, tmp_path: Path, heard) -> None:
    os.mkfifo(images / "b.png")
    os.mkfifo(images / "a.caption")
    merge_captions_to_metadata.main([str(images), str(tmp_path / "meta.json")])
    assert (tmp_path / "meta.json").is_file()
    message(heard.lines, "2 pipes", "skipped", "a.caption, b.png")
    resize_images_to_resolution.main([str(images), str(tmp_path / "small"), "--copy_associated_files"])
    assert all(path.is_file() for path in (tmp_path / "small").iterdir())


@posix
def test_a_closed_folder_inside_is_told(images: Path, tmp_path: Path, heard) -> None:
    (images / "closed").mkdir()
    (images / "closed").chmod(0)
    try:
        with another_user():
            merge_captions_to_metadata.main([str(images), str(tmp_path / "meta.json"), "--recursive"])
    finally:
        (images / "closed").chmod(0o700)
    assert f"{images / 'closed'}: cannot be read" in heard.text


@pytest.mark.parametrize("variant", ["../../x", "/x", "a/b", "a\\b", "n" * 300])
def test_a_variant_is_part_of_a_name(variant: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [places["file"], str(tmp_path / "folder"), "--variant", variant]
    assert run_script(convert_diffusers20_original_sd.main, argv) == EXIT_FAULT
    assert "--variant: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", list(CODES))
def test_the_config_of_a_run_is_read_and_written_at_places_that_can_be_opened(
    place: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if place not in places:
        pytest.skip("cannot be created here")
    with another_user():
        assert run_script(config_from_run.main, [places[place], str(tmp_path / "new.toml")]) == EXIT_FAULT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and list(tmp_path.iterdir()) == []
