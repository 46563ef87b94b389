"""What goes wrong in a user's folder, tool by tool from images to latents: one clear line, nothing lost, the rest done.

A broken image before the tools that open images, and a caption that is not UTF-8, are among each tool's other tests.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from finetune import (
    clean_captions_and_tags,
    make_captions,
    merge_captions_to_metadata,
    merge_dd_tags_to_metadata,
    prepare_buckets_latents,
    tag_images_by_wd14_tagger,
)
from library.data.pixels import latent_files
from library.files import atomic_write
from tests.data.material import photo
from tests.messages import refusals
from tests.preparation.tiny_blip import write_blip
from tests.preparation.tiny_tagger import write_tagger
from tests.scripts.running import run_in_process
from tools import resize_images_to_resolution

META = {"a": {"caption": "old", "tags": "mine"}, "closed/c": {"tags": "theirs"}}
WHOLE = json.dumps(META).encode()
BESIDE = {"captions": ".caption", "tags": ".txt", "latents": ".npz"}  # what each tool writes next to images


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_v1: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"blip": write_blip(folder / "blip"), "tagger": write_tagger(folder / "tagger"), "model": tiny_v1}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images/a.png, images/b.png and images/closed/c.png with captions and tags, and meta.json; the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a", "b", "closed/c")):
        photo(tmp_path / "images" / f"{name}.png", (64, 64), seed=number)
        for ending in (".caption", ".txt"):
            (tmp_path / "images" / f"{name}{ending}").write_text(f"text of {name}", encoding="utf-8")
    (tmp_path / "meta.json").write_text(json.dumps(META), encoding="utf-8")
    return tmp_path


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called "closed" may not be written to, for whoever runs the tests."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: not (Path(path).name == "closed" and mode & os.W_OK) and access(path, mode, **more)
    )


def start(
    tool: str, models: dict, folder: str = "images", read: str = "meta.json", written: str = "out.json", skip_existing: bool = False
) -> int:
    sizes = ("--max_resolution", "64,64", "--min_bucket_reso", 64, "--recursive", *(["--skip_existing"] if skip_existing else []))
    commands = {
        "captions": (make_captions, folder, "--recursive", "--caption_weights", models["blip"], "--max_length", 12),
        "tags": (tag_images_by_wd14_tagger, folder, "--recursive", "--model_dir", models["tagger"]),
        "merge captions": (merge_captions_to_metadata, folder, written, "--in_json", read, "--recursive"),
        "merge tags": (merge_dd_tags_to_metadata, folder, written, "--in_json", read, "--recursive"),
        "clean": (clean_captions_and_tags, read, written),
        "latents": (prepare_buckets_latents, folder, read, written, models["model"], *sizes),
        "shrink": (resize_images_to_resolution, folder, Path(written).parent, "--max_resolution", "32x32"),
    }
    script, *argv = commands[tool]
    return run_in_process(script.main, *argv)


def errors(capsys: pytest.CaptureFixture) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "Traceback"))]


@pytest.mark.parametrize("tool", BESIDE)
def test_what_belongs_into_a_closed_folder_is_told_once_and_the_rest_is_done(work: Path, models, tool: str, shut, capsys) -> None:
    before = {path: path.read_bytes() for path in (work / "images" / "closed").iterdir()}
    done = work / "images" / f"a{BESIDE[tool]}"
    done.unlink(missing_ok=True)
    assert start(tool, models) == 1
    first, last = errors(capsys)
    refusals([first, last], ("PATH-005", Path("images", "closed"), "1 file", "Permission denied", "writable"), ("TOOL-001",))
    assert done.is_file()
    assert {path: path.read_bytes() for path in (work / "images" / "closed").iterdir()} == before
    if tool == "latents":
        assert ["train_resolution" in entry for entry in json.loads(Path("out.json").read_text(encoding="utf-8")).values()] == [True, False]


def test_latents_that_lie_in_a_closed_folder_are_kept_and_need_no_right_to_write(work: Path, models, shut, monkeypatch, capsys) -> None:
    tried = []

    def write(path: Path):
        if path.parent.name == "closed":
            tried.append(path.name)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return atomic_write(path)

    with monkeypatch.context() as once_open:
        once_open.setattr(os, "access", lambda path, mode, **more: True)
        once_open.setattr(latent_files, "_FRESH", 10**18)  # images so new that the latents do not remember their times …
        assert start("latents", models) == 0
    latents = (work / "images" / "closed" / "c.npz").read_bytes()
    monkeypatch.setattr(latent_files, "_FRESH", -(10**18))  # … and so old at the next start that it adds them to each file, where it may
    monkeypatch.setattr(latent_files, "atomic_write", write)
    assert start("latents", models, skip_existing=True) == 0
    assert tried == ["c.npz"]
    assert all("train_resolution" in entry for entry in json.loads(Path("out.json").read_text(encoding="utf-8")).values())
    (work / "closed.json").write_text('{"c": {}}', encoding="utf-8")
    capsys.readouterr()
    assert start("latents", models, folder="images/closed", read="closed.json", written="none.json") == 2
    refusals(errors(capsys), ("PATH-005", Path("images", "closed"), "1 file", "Permission denied"))  # nothing at all can be done
    assert not Path("none.json").exists()
    assert (work / "images" / "closed" / "c.npz").read_bytes() == latents


@pytest.mark.parametrize("tool", ["merge captions", "merge tags", "clean", "latents", "shrink"])
def test_a_result_that_may_not_be_written_is_told_before_the_work_begins(work: Path, models, tool: str, shut, capsys) -> None:
    (work / "closed").mkdir()
    assert start(tool, models, written="closed/out.json") == 2
    option = "dst_img_folder" if tool == "shrink" else "out_json"
    refusals(errors(capsys), ("PATH-005", f"error: {option}: closed", "permission", "another folder"))
    assert not list((work / "closed").iterdir()) and not list(work.rglob("*.npz"))
    assert json.loads((work / "meta.json").read_text(encoding="utf-8")) == META


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (WHOLE[:33], ("CFG-002", "truncated")),
        (WHOLE[: WHOLE.index(b"}") + 1], ("CFG-002", "truncated")),  # after an entry that is whole
        (b'{"caf\xe9": {}}', ("CFG-001", "UTF-8", "byte 5")),
    ],
    ids=["cut in a text", "cut after an entry", "not UTF-8"],
)
@pytest.mark.parametrize("tool", ["merge captions", "merge tags", "clean", "latents"])
@pytest.mark.parametrize("same", [False, True], ids=["another file", "the same file"])
def test_metadata_that_cannot_be_read_is_one_line_and_stays_as_it_is(
    work: Path, models, tool: str, data: bytes, asked: tuple[str, ...], same: bool, capsys
) -> None:
    (work / "meta.json").write_bytes(data)
    assert start(tool, models, written="meta.json" if same else "out.json") == 2
    refusals(errors(capsys), (*asked, "meta.json"))
    assert (work / "meta.json").read_bytes() == data and not (work / "out.json").exists() and not list(work.rglob("*.npz"))


@pytest.mark.parametrize(("tool", "field", "ending"), [("merge captions", "caption", ".caption"), ("merge tags", "tags", ".txt")])
def test_a_text_that_is_not_utf8_keeps_its_entry_and_a_broken_image_costs_nothing(
    work: Path, models, tool: str, field: str, ending: str, capsys
) -> None:
    (work / "images" / f"a{ending}").write_bytes(b"caf\xe9")
    (work / "images" / "b.png").write_bytes(b"no image")  # its text can be used; the tool that opens the image reports it
    assert start(tool, models) == 1
    refusals(errors(capsys), ("DATA-004", Path("images", f"a{ending}"), "byte 3", "UTF-8"), ("TOOL-001",))
    entries = json.loads((work / "out.json").read_text(encoding="utf-8"))
    assert entries["a"] == META["a"] and (entries["b"], entries["closed/c"][field]) == ({field: "text of b"}, "text of closed/c")
    assert (work / "images" / f"a{ending}").read_bytes() == b"caf\xe9"
