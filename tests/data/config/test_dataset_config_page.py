"""docs/dataset_config.md: its blocks parse, and it names every key with its default."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import toml

from library.data.config.blueprint import DatasetOptions, SubsetOptions
from library.data.config.build import dataset_options
from library.data.config.check import check_tree
from library.data.config.keys import KEYS
from library.options.declare import options_of
from library.options.groups.scripts import SCRIPTS
from library.pictures.prompt_files import read_prompts
from library.training.logs.tracker_settings import TENSORBOARD

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/dataset_config.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


def toml_blocks(text: str) -> list[str]:
    """The fenced blocks marked as TOML, and the indented ones that begin with a table."""
    indented = re.findall(r"^    \[.*\n(?:(?:    .*)?\n)*", text, re.MULTILINE)
    return re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL) + [textwrap.dedent(block) for block in indented]


OTHER_BLOCKS = [
    (path.name, block)
    for path in sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    if path.name != "dataset_config.md"
    for block in toml_blocks(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("text", BLOCKS)
def test_each_toml_block_is_a_config_without_faults(text: str) -> None:
    tree = toml.loads(text)
    assert check_tree(tree, "page") == []
    for dataset in tree["datasets"]:
        values = {key: KEYS[key].check(value) for key, value in (tree.get("general", {}) | dataset).items() if key in KEYS}
        options, faults = dataset_options(values, "page")
        assert options and not faults and dataset["subsets"]


@pytest.mark.parametrize(("page", "text"), OTHER_BLOCKS)
def test_each_toml_block_of_the_other_pages_is_read_as_what_it_is(page: str, text: str, tmp_path: Path) -> None:
    """A dataset config, prompts of samples, settings of trackers, or options of a script."""
    tree = toml.loads(text)
    if "datasets" in tree:
        assert check_tree(tree, page) == []
    elif "prompt" in tree:
        (tmp_path / "prompts.toml").write_text(text, encoding="utf-8")
        prompts, _ = read_prompts(tmp_path / "prompts.toml")
        assert prompts
    elif tree.keys() & {"wandb", "tensorboard"}:
        assert tree.keys() <= {"wandb", "tensorboard"} and tree.get("tensorboard", {}).keys() <= TENSORBOARD.keys()
    else:
        names = {name for spec in SCRIPTS for option in options_of(spec) for name in option.names}
        leaves = {key for value in tree.values() if isinstance(value, dict) for key in value}
        assert leaves | {key for key, value in tree.items() if not isinstance(value, dict)} <= names


def test_the_readme_has_such_a_block() -> None:
    assert "README.md" in {page for page, _ in OTHER_BLOCKS}


def test_json_blocks_parse_and_the_config_among_them_has_no_faults() -> None:
    _, config = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]
    assert check_tree(config, "page") == []


DEFAULTS = {field.name: field.default for kind in (DatasetOptions, SubsetOptions) for field in fields(kind)}


def test_every_key_has_a_row_with_its_default_and_an_example_that_is_accepted() -> None:
    rows = {
        match[1]: [cell.strip() for cell in match[0].split("|")[1:-1]] for match in re.finditer(r"^\| `(\w+)` \|.*$", PAGE, re.MULTILINE)
    }
    assert rows.keys() == KEYS.keys()
    for name, (_, _, default, _, example) in rows.items():
        assert KEYS[name].check(toml.loads(example.strip("`"))[name]) is not None
        usual = DEFAULTS[name]
        if usual not in (None, ()) and usual is not MISSING:
            assert toml.loads(f"x = {default.split('`')[1]}")["x"] == usual, name
