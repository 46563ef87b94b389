"""The form of a config file, TOML or JSON: what is not readable is told by its line, and what looks alike is read alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from library.data.config.build import read_config
from library.errors import UserError
from tests.data.config.faults import ONE, faults
from tests.data.material import BOTH, config, read


def test_json_says_the_same_as_toml(folder: Path) -> None:
    subset = {"image_dir": str(folder / "dog"), "class_tokens": "x"}
    path = config(folder / "set.json", json.dumps({"datasets": [{"resolution": 512, "subsets": [subset]}]}))
    toml = read(folder, f"[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\nclass_tokens = 'x'")
    assert read_config(path, {}, BOTH).datasets[0].options == toml.datasets[0].options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[datasets]]\nresolution = 512\nresolution = 512\n", "line 3"),
        ('[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "C:\\Users\\dog"\n', "line 4: is not TOML: … ; a backslash"),
        ("[[datasets]]\nresolution = [512, 7.5]\n", "line 2: is not TOML: … ; the numbers in [ ] must be all whole"),
        ("[[datasets]]\nenable_bucket = True\n", "line 2: is not TOML: … ; write true or false, in lower case"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = C:\\photos\n", "line 3: is not TOML: … ; text such as a path needs quotes"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = /home/me  # mine\n", "line 3: is not TOML: … ; text such as a path needs quotes"),
        ("[[datasets]]\nresolution = 512, 768  # wide\n", "line 2: is not TOML: … ; write two numbers in square brackets"),
        ("[[datasets]]\nresolution = (512,768)\n", "line 2: is not TOML: … ; write two numbers in square brackets"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = ‘dog’\n", "line 3: is not TOML: … ; text must be between straight quotes"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'my dog's'\n", "line 3: is not TOML: … ; text must end with the quote"),
        ("[[datasets]]\nresolution = 512\n[datasets.subsets]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'", "write [[datasets.subsets]]"),
        ("[datasets]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'", "write [[datasets]]"),
        ("[[datasets]]\nresolution = 512\n[datasets.subsets]\na = 1\n[[datasets.subsets]]\na = 1", "double brackets"),
        ("[[dataset]]\nresolution = 512\n", "did you mean [[datasets]]?"),
        ("pretrained_model_name_or_path = 'x'\n", "use it with --config_file"),
        ("[general]\n", "has no [[datasets]] section"),
        ("", "has no [[datasets]] section"),
        ("[[datasets]]\nresolution = 512\n", "has no subsets"),
        ("datasets = []\n", "datasets is empty"),
        ("datasets = 3\n", "must be a list of tables"),
        ("general = 3\n[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'", "[general]"),
        (ONE.format("resolution = 512", "is_reg = true"), "has only regularization images"),
        (ONE.format("resolution = 512", "num_repeats = 0"), "nothing is left"),
        ("[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nclass_tokens = 'x'", "subsets[0].image_dir is missing"),
        (ONE.format("resolution = 512", "metadata_file = 'HERE/meta.json'"), "class_tokens contradicts metadata_file"),
    ],
)  # fmt: skip
def test_fault_of_the_files_form_is_one_line_with_the_remedy(folder: Path, text: str, words: str) -> None:
    (line,) = faults(folder, text)
    assert all(part in line for part in words.split(" … ")) and line.count("set.toml") == 1


def test_the_refused_line_of_the_file_comes_before_what_to_write(folder: Path) -> None:
    (line,) = faults(folder, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = /home/me\n")
    assert line.endswith("line 3: is not TOML: image_dir = /home/me; text such as a path needs quotes: image_dir = 'C:\\photos'")


@pytest.mark.parametrize(("name", "words"), [("nothing.toml", "cannot be opened"), ("dog", "is a folder"), ("latin.toml", "is not UTF-8")])
def test_config_that_cannot_be_read_is_one_line(folder: Path, name: str, words: str) -> None:
    (folder / "latin.toml").write_bytes("# Müller".encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read_config(folder / name, {}, BOTH)
    assert len(caught.value.problems) == 1 and words in str(caught.value)


def test_json_syntax_fault_names_the_line(folder: Path) -> None:
    with pytest.raises(UserError, match="line 2: is not JSON"):
        read_config(config(folder / "set.json", '{"datasets":\n oops}'), {}, BOTH)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"datasets": [],\n}', "line 2: is not JSON: .*the last entry must not end in a comma"),
        ('{"datasets": [{"batch_size": 1, "batch_size": 2}]}', "'batch_size' appears twice in one table"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_is_not_what_it_looks_like_is_told_in_one_line(folder: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_config(config(folder / "set.json", text), {}, BOTH)
    assert len(caught.value.problems) == 1


def test_indentation_copied_from_a_web_page_does_no_harm(folder: Path) -> None:
    text = ONE.format("resolution = 512", "num_repeats = 3").replace("HERE", folder.as_posix())
    (subset,) = read(folder, re.sub("(?m)^", "\u00a0\u3000 ", text)).subsets()
    assert subset.num_repeats == 3


def test_windows_literal_strings_and_a_bom_parse(folder: Path) -> None:
    text = "\ufeff" + "[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'C:\\new\\train'\nclass_tokens = 'x'\n"
    (line,) = faults(folder, text)
    assert "'C:\\new\\train' does not exist" in line
