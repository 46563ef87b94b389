"""Every full command on a script's page is accepted as it stands there, and trains the small model of the examples."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from library.options.declare import Script
from library.options.groups.scripts import SCRIPTS
from library.options.reading.parse import parse
from tests.scripts.running import run_in_process

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SMALL_MODEL = ROOT / "examples" / "small_model" / "small_sd.safetensors"
BY_NAME: dict[str, type[Script]] = {spec.name: spec for spec in SCRIPTS}
# What a test on a CPU has to say otherwise; the last of two values counts.
ON_A_TEST = "--max_train_steps 2 --mixed_precision no --max_data_loader_n_workers 0".split()
CONFIGS = {
    "dog.toml": "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = 'pictures/my_dog'\nclass_tokens = 'shs dog, <my-dog>'\n"
    "caption_extension = '.none'\n"
    "[[datasets.subsets]]\nimage_dir = 'pictures/dogs'\nclass_tokens = 'dog'\nis_reg = true\n",
    "cup.toml": "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = 'pictures/my_dog'\nclass_tokens = 'my-cup'\n",
    "cup_and_hat.toml": "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = 'pictures/my_dog'\n"
    "class_tokens = 'my-cup and <my-hat>'\n",
}


def commands(page: str) -> list[list[str]]:
    """The `accelerate launch` commands of a page: the script and its options. One that ends in … is only the start of a command."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^ *accelerate launch (?:.*\\\n)*.*$", text, re.MULTILINE)
    words = [shlex.split(command.replace("\\\n", " ")) for command in found if not command.endswith("…")]
    return [line[next(place for place, word in enumerate(line) if word.endswith(".py")) :] for line in words]


PAGES = ("train_network.md", "train_db.md", "fine_tune.md", "train_textual_inversion.md")
ALL = [(page, line) for page in PAGES for line in commands(page)]


@pytest.fixture
def work(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that holds what the pages name."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SMALL_MODEL, "v1-5-pruned-emaonly.safetensors")
    for folder in ("my_dog", "dogs"):
        shutil.copytree(photos, Path("pictures", folder), ignore=shutil.ignore_patterns("0[3-9]*"))
    for name, content in CONFIGS.items():
        Path(name).write_text(content, encoding="utf-8")
    Path("meta.json").write_text('{"my_dog/00_chelsea": {"caption": "a cat", "tags": "a, b"}}', encoding="utf-8")
    prepared = '{"my_dog/00_chelsea": {"caption": "a cat", "train_resolution": [64, 64]}}'
    Path("meta_latents.json").write_text(prepared, encoding="utf-8")
    Path("prompts.txt").write_text("a dog --w 64 --h 64 --s 1\n", encoding="utf-8")
    return tmp_path


def test_each_page_has_a_command_for_its_script() -> None:
    named = {(page, line[0]) for page, line in ALL}
    assert named == {(page, page.replace(".md", ".py")) for page, _ in ALL} | {
        ("train_textual_inversion.md", "train_textual_inversion_XTI.py")
    }


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page} {line[0]}" for page, line in ALL])
def test_the_command_of_a_page_trains(page: str, line: list[str], work: Path) -> None:
    options = parse(BY_NAME[line[0]], line[1:])
    small = ["--resolution", "64", "--min_bucket_reso", "64"] if "--in_json" in line else []
    steps = ["--max_train_epochs", "1"] if options.training.max_train_epochs else []
    script = importlib.import_module(line[0].removesuffix(".py"))
    assert run_in_process(script.main, *line[1:], *ON_A_TEST, *small, *steps) == 0
    extension = getattr(options.saving, "save_model_as", None) or "safetensors"
    assert options.product_suffixes
    assert all((work / "output" / f"{options.saving.output_name}{suffix}.{extension}").is_file() for suffix in options.product_suffixes)
