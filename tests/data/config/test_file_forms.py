"""The form of a config file, TOML or JSON: an error names the line, and what looks alike is read alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from library.data.config.build import read_config
from library.errors import UserError
from tests.data.config.faults import ONE, faults
from tests.data.material import BOTH, config, read
from tests.messages import refusal, refusals, refused


def test_json_says_the_same_as_toml(folder: Path) -> None:
    subset = {"image_dir": str(folder / "dog"), "class_tokens": "x"}
    path = config(folder / "set.json", json.dumps({"datasets": [{"resolution": 512, "subsets": [subset]}]}))
    toml = read(folder, f"[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\nclass_tokens = 'x'")
    assert read_config(path, {}, BOTH).datasets[0].options == toml.datasets[0].options


@pytest.mark.parametrize("key", ["class_tokens", "caption_prefix", "keep_tokens_separator"])
def test_half_of_a_character_in_json_is_refused_before_it_is_tokenized(folder: Path, key: str) -> None:
    subset = {"image_dir": str(folder / "dog"), "class_tokens": "x", key: "a\ud800"}
    path = config(folder / "set.json", json.dumps({"datasets": [{"resolution": 512, "subsets": [subset]}]}))
    with refused("CFG-008", key, "surrogate"):
        read_config(path, {}, BOTH)


def test_a_list_with_a_number_is_not_said_to_have_half_of_a_character(folder: Path) -> None:
    subset = {"image_dir": str(folder / "dog"), "class_tokens": "x", "prior_prompt": ["dog", 3]}
    path = config(folder / "set.json", json.dumps({"datasets": [{"resolution": 512, "subsets": [subset]}]}))
    with refused("CFG-008", "prior_prompt") as error:
        read_config(path, {}, BOTH)
    assert "surrogate" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("[[datasets]]\nresolution = 512\nresolution = 512\n", ("CFG-002", "line 3")),
        ('[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "C:\\Users\\dog"\n',
         ("CFG-002", "line 4", "backslash", "single quotes")),
        ("[[datasets]]\nresolution = [512, 7.5]\n", ("CFG-002", "line 2", "[512, 7.5]", "all whole")),
        ("[[datasets]]\nenable_bucket = True\n", ("CFG-002", "line 2", "enable_bucket = True", "lower case")),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = C:\\photos\n", ("CFG-002", "line 3", "quotes", "C:\\photos")),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = /home/me  # mine\n", ("CFG-002", "line 3", "quotes", "/home/me")),
        ("[[datasets]]\nresolution = 512, 768  # wide\n", ("CFG-002", "line 2", "square brackets", "[512, 768]")),
        ("[[datasets]]\nresolution = (512,768)\n", ("CFG-002", "line 2", "square brackets", "[512, 768]")),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = ‘dog’\n", ("CFG-002", "line 3", "straight quotes", "‘dog’")),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'my dog's'\n", ("CFG-002", "line 3", "must end", "'my dog's'")),
        ("[[datasets]]\nresolution = 512\n[datasets.subsets]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'",
         ("CFG-003", "datasets[0].subsets", "[[datasets.subsets]]")),
        ("[datasets]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'", ("CFG-003", "[[datasets]]")),
        ("[[datasets]]\nresolution = 512\n[datasets.subsets]\na = 1\n[[datasets.subsets]]\na = 1", ("CFG-002", "double brackets")),
        ("[[dataset]]\nresolution = 512\n", ("CFG-011", "dataset", "[[datasets]]?")),
        ("pretrained_model_name_or_path = 'x'\n", ("CFG-011", "[[datasets]]", "--config_file")),
        ("[general]\n", ("CFG-011", "[[datasets]]", "[[datasets.subsets]]", "image_dir")),
        ("", ("CFG-011", "[[datasets]]", "[[datasets.subsets]]", "image_dir")),
        ("[[datasets]]\nresolution = 512\n", ("CFG-011", "datasets[0]", "[[datasets.subsets]]")),
        ("datasets = []\n", ("CFG-011", "datasets is empty")),
        ("datasets = 3\n", ("CFG-003", "list", "[[datasets]]")),
        ("general = 3\n[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'",
         ("CFG-003", "[general]")),
        (ONE.format("resolution = 512", "is_reg = true"), ("DATA-012", "datasets[0]", "is_reg = true")),
        (ONE.format("resolution = 512", "num_repeats = 0"), ("DATA-012", "datasets[0]", "num_repeats = 0")),
        ("[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nclass_tokens = 'x'", ("CFG-011", "subsets[0].image_dir is missing")),
        (ONE.format("resolution = 512", "metadata_file = 'HERE/meta.json'"), ("CFG-010", "class_tokens", "metadata_file")),
    ],
)  # fmt: skip
def test_fault_of_the_files_form_is_one_line_with_the_remedy(folder: Path, text: str, asked: tuple[str, ...]) -> None:
    (line,) = faults(folder, text)
    refusal([line], *asked)
    assert line.count("set.toml") == 1


def test_the_refused_line_of_the_file_comes_before_what_to_write(folder: Path) -> None:
    (line,) = faults(folder, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = /home/me\n")
    assert line.endswith("line 3: is not TOML: image_dir = /home/me; text such as a path needs quotes: image_dir = 'C:\\photos'")


@pytest.mark.parametrize(("name", "code"), [("nothing.toml", "CFG-004"), ("dog", "PATH-002"), ("latin.toml", "CFG-001")])
def test_config_that_cannot_be_read_is_one_line(folder: Path, name: str, code: str) -> None:
    (folder / "latin.toml").write_bytes("# Müller".encode("latin-1"))
    with pytest.raises(UserError) as error:
        read_config(folder / name, {}, BOTH)
    refusals(error.value, (code, "--dataset_config", folder / name))


def test_json_syntax_fault_names_the_line(folder: Path) -> None:
    with refused("CFG-002", "--dataset_config", folder / "set.json", "line 2"):
        read_config(config(folder / "set.json", '{"datasets":\n oops}'), {}, BOTH)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('{"datasets": [],\n}', ("CFG-002", "line 2", "comma")),
        ('{"datasets": [{"batch_size": 1, "batch_size": 2}]}', ("CFG-009", "'batch_size'")),
        ("[" * 100_000, ("CFG-012", 100)),
    ],
)
def test_json_that_is_not_what_it_looks_like_is_told_in_one_line(folder: Path, text: str, asked: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        read_config(config(folder / "set.json", text), {}, BOTH)
    refusals(error.value, (*asked, folder / "set.json"))


def test_indentation_copied_from_a_web_page_does_no_harm(folder: Path) -> None:
    text = ONE.format("resolution = 512", "num_repeats = 3").replace("HERE", folder.as_posix())
    (subset,) = read(folder, re.sub("(?m)^", "\u00a0\u3000 ", text)).subsets()
    assert subset.num_repeats == 3


def test_windows_literal_strings_and_a_bom_parse(folder: Path) -> None:
    text = "\ufeff" + "[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = 'C:\\new\\train'\nclass_tokens = 'x'\n"
    refusals(faults(folder, text), ("PATH-001", "image_dir: 'C:\\new\\train'"))


def test_subsets_without_their_dataset_say_which_line_is_missing(folder: Path) -> None:
    text = f"[general]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\nclass_tokens = 'x'"
    refusals(faults(folder, text), ("CFG-003", "no line [[datasets]]", "above [[datasets.subsets]]"))


@pytest.mark.parametrize("ending", [".png", ".JPG", ".heic"])
def test_an_ending_of_images_is_none_of_captions(folder: Path, ending: str) -> None:
    refusals(faults(folder, ONE.format("resolution = 512", f"caption_extension = '{ending}'")), ("CFG-008", "caption_extension", ending))


def test_a_table_in_place_of_json_is_not_said_to_be_truncated(folder: Path) -> None:
    with refused("CFG-002", "line 1") as error:
        read_config(config(folder / "set.json", "file,caption\n0.png,a\n"), {}, BOTH)
    assert "truncated" not in str(error.value)
