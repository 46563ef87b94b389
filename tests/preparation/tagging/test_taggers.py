"""The tagger's own files: found, downloaded, or refused with what is wrong with them."""

import os
import shutil
from pathlib import Path

import pytest

from library.preparation.wd14 import Tagger, locate, read_labels, read_mapping
from tests.messages import message, refusal, refused
from tests.preparation.tagging.starting import colour, tag, tags
from tests.preparation.tiny_tagger import SIDE, TAGS, write_tagger


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


def test_the_size_is_read_from_the_model(tmp_path: Path) -> None:
    tagger = Tagger(write_tagger(tmp_path / "large", side=48))
    assert tagger.size == 48 and tagger.prepare(colour(tmp_path / "a.png")).shape == (48, 48, 3)


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


def test_a_connection_that_breaks_off_is_told_in_one_line(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    class ReadError(Exception):
        """As the HTTP library of huggingface_hub has it: derived from no class of Python's own."""

    def download(*_: object, **__: object) -> None:
        raise ReadError("Connection reset by peer")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert tag(folder, tmp_path / "models", "--repo_id", "some/one") == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusal(error, "HUB-004", "--repo_id: some/one", "model.onnx", "Connection reset by peer", "network")


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


@pytest.mark.parametrize(("name", "text"), [("selected_tags.csv", 'name,category\n"' + "x" * 200_000), ("tag_mapping.json", '{"1": {}}')])
def test_labels_that_are_no_table_are_told_without_python(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with refused("DATA-026", "--model_dir", name, "--force_download") as caught:
        (read_labels if name.endswith(".csv") else read_mapping)(tmp_path / name)
    assert "Error" not in str(caught.value)
