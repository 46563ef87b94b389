"""From two folders of images to a fine-tuned model with the tools in their order, and every command of docs/captions_and_tags.md."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import fine_tune
from tests.messages import message
from tests.preparation.tiny_blip import write_blip
from tests.preparation.tiny_git import write_git
from tests.preparation.tiny_tagger import write_tagger
from tests.scripts.running import run_in_process

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "captions_and_tags.md"
LATENTS = "prepare_buckets_latents"
needs_latents = pytest.mark.skipif(not (ROOT / "finetune" / f"{LATENTS}.py").is_file(), reason="the latents tool does not exist")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny captioners of both kinds and a tiny tagger."""
    folder = tmp_path_factory.mktemp("describing")
    write_blip(folder / "blip")
    write_git(folder / "git")
    write_tagger(folder / "tagger")
    return folder


@pytest.fixture
def work(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with two images each, one name in both, and no captions."""
    monkeypatch.chdir(tmp_path)
    images = sorted(path for path in photos.iterdir() if path.suffix in (".png", ".jpg"))[:4]
    for place, image in zip(("one/a", "one/b", "two/a", "two/c"), images, strict=True):
        path = tmp_path / f"{place}{image.suffix}"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(image, path)
    return tmp_path


def tool(name: str, *argv: object) -> None:
    assert run_in_process(importlib.import_module(f"finetune.{name}").main, *argv) == 0, name


def describe(models: Path, *folders: str) -> None:
    for folder in folders:
        tool("make_captions", folder, "--caption_weights", models / "blip", "--max_length", 12, "--batch_size", 2)
        tool("tag_images_by_wd14_tagger", folder, "--model_dir", models / "tagger", "--remove_underscore", "--batch_size", 2)


def prepare(folders: list[str], flags: list[str], model: Path, name: str, latents: bool) -> dict:
    """Merge captions and tags of the folders into one metadata file, clean it, prepare latents; the entries of <name>.json."""
    last: list[object] = []
    for number, folder in enumerate(folders):
        tool("merge_captions_to_metadata", *flags, *last, folder, f"{name}_cap{number}.json")
        last = ["--in_json", f"{name}_cap{number}.json"]
    for number, folder in enumerate(folders):
        tool("merge_dd_tags_to_metadata", *flags, *last, folder, f"{name}_tag{number}.json")
        last = ["--in_json", f"{name}_tag{number}.json"]
    tool("clean_captions_and_tags", last[1], f"{name}.json")
    if latents:
        size = ["--max_resolution", "64,64", "--min_bucket_reso", "64", "--batch_size", 2, "--max_data_loader_n_workers", 0]
        for folder in folders:
            tool(LATENTS, *flags, folder, f"{name}.json", f"{name}.json", model, *size)
    return json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))


def check(entries: dict, latents: bool) -> None:
    for entry in entries.values():
        assert entry["caption"] and entry["tags"].endswith("miku (someone)") and "o_o" in entry["tags"]
        assert ("train_resolution" in entry) == latents


def train(model: Path, *argv: object) -> None:
    common = ["--pretrained_model_name_or_path", model, "--output_dir", "output", "--max_train_steps", 2, "--seed", 1]
    assert run_in_process(fine_tune.main, *common, "--max_data_loader_n_workers", 0, "--train_batch_size", 2, *argv) == 0
    assert Path("output/last.safetensors").is_file()


@pytest.mark.parametrize("latents", [False, pytest.param(True, marks=needs_latents)])
def test_two_folders_in_one_file_by_full_path(work: Path, models: Path, tiny_v1: Path, latents: bool, capsys) -> None:
    describe(models, "one", "two")
    entries = prepare(["one", "two"], ["--full_path"], tiny_v1, "meta", latents)
    assert set(entries) == {str(path) for folder in ("one", "two") for path in (work / folder).iterdir() if path.suffix in (".png", ".jpg")}
    check(entries, latents)
    Path("data.toml").write_text("[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nmetadata_file = 'meta.json'\n", encoding="utf-8")
    train(tiny_v1, "--dataset_config", "data.toml")
    output = capsys.readouterr().err
    assert "without an image" not in output and "without an entry" not in output


@pytest.mark.parametrize("latents", [False, pytest.param(True, marks=needs_latents)])
def test_two_folders_with_a_file_each_by_name(work: Path, models: Path, tiny_v1: Path, latents: bool, capsys) -> None:
    describe(models, "one", "two")
    for folder, names in (("one", {"a", "b"}), ("two", {"a", "c"})):
        entries = prepare([folder], [], tiny_v1, folder, latents)
        assert set(entries) == names
        check(entries, latents)
    subsets = "".join(f"[[datasets.subsets]]\nimage_dir = '{name}'\nmetadata_file = '{name}.json'\n" for name in ("one", "two"))
    Path("data.toml").write_text(f"[[datasets]]\nresolution = 64\n{subsets}", encoding="utf-8")
    train(tiny_v1, "--dataset_config", "data.toml")
    output = capsys.readouterr().err
    assert "without an image" not in output and "without an entry" not in output


def blocks(kind: str) -> list[str]:
    """The blocks of the page between ``` lines, of this kind."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == kind]


def commands() -> list[list[str]]:
    """The commands of the page in their order: the script and its words."""
    lines = [line for block in blocks("") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line) for line in lines]
    return [line[next(place for place, word in enumerate(line) if word.endswith(".py")) :] for line in words]


def test_the_page_names_every_tool_that_it_is_about() -> None:
    from library.options.tool_groups.preparation import PREPARATION_TOOLS

    assert {line[0] for line in commands()} == {spec.name for spec in PREPARATION_TOOLS} | {f"finetune/{LATENTS}.py", "fine_tune.py"}
    assert "(caches.md#prepared-latents)" in PAGE.read_text(encoding="utf-8")
    assert "\n## Prepared latents\n" in PAGE.with_name("caches.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_run_in_their_order(work: Path, models: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    Path("one").rename("pictures")
    Path("two").rename("more_pictures")
    shutil.copy(tiny_v1, "v1-5-pruned-emaonly.safetensors")
    describe(models, "more_pictures")
    # What a test without a network and a GPU has to say otherwise; the last of two values counts.
    small = "--resolution 64 --min_bucket_reso 64 --mixed_precision no --max_data_loader_n_workers 0 --max_train_epochs 1"
    otherwise = {
        "finetune/make_captions.py": ["--caption_weights", models / "blip", "--max_length", 12],
        "finetune/make_captions_by_git.py": ["--model_id", models / "git", "--max_length", 12],
        "finetune/tag_images_by_wd14_tagger.py": ["--model_dir", models / "tagger"],
        f"finetune/{LATENTS}.py": ["--max_resolution", "64,64", "--min_bucket_reso", 64],
        "fine_tune.py": small.split(),
    }
    for line in commands():
        script = importlib.import_module(line[0].removesuffix(".py").replace("/", "."))
        assert run_in_process(script.main, *line[1:], *otherwise.get(line[0], [])) == 0, line
    message(capsys.readouterr().err, "latents: 2 of 2", "on disk")
    assert len(json.loads(Path("all2.json").read_text(encoding="utf-8"))) == 4
    assert Path("output/umbrellas.safetensors").is_file() and len(list(Path("small").glob("*.caption"))) == 4


def test_the_example_of_cleaning_on_the_page_is_what_the_tool_does(tmp_path: Path) -> None:
    before, after = blocks("json")
    (tmp_path / "before.json").write_text(before, encoding="utf-8")
    tool("clean_captions_and_tags", tmp_path / "before.json", tmp_path / "after.json")
    assert (tmp_path / "after.json").read_text(encoding="utf-8") == after.strip()
