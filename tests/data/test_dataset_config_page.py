"""docs/dataset_config.md: its blocks parse, and it names every key with its default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import toml

from library.data.config_check import check_tree
from library.data.dataset_build import dataset_options
from library.data.dataset_keys import KEYS

PAGE = (Path(__file__).parents[2] / "docs/dataset_config.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_each_toml_block_is_a_config_without_faults(text: str) -> None:
    tree = toml.loads(text)
    assert check_tree(tree, "page") == []
    for dataset in tree["datasets"]:
        values = {key: KEYS[key].check(value) for key, value in (tree.get("general", {}) | dataset).items() if key in KEYS}
        options, faults = dataset_options(values, "page")
        assert options and not faults and dataset["subsets"]


def test_json_blocks_parse_and_the_config_among_them_has_no_faults() -> None:
    _, config = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]
    assert check_tree(config, "page") == []


def test_every_key_has_a_row_with_its_default_and_an_example_that_is_accepted() -> None:
    rows = {
        match[1]: [cell.strip() for cell in match[0].split("|")[1:-1]] for match in re.finditer(r"^\| `(\w+)` \|.*$", PAGE, re.MULTILINE)
    }
    assert rows.keys() == KEYS.keys()
    for name, (_, _, default, _, example) in rows.items():
        assert KEYS[name].check(toml.loads(example.strip("`"))[name]) is not None
        if KEYS[name].default is not None:
            assert toml.loads(f"x = {default.split('`')[1]}")["x"] == KEYS[name].default, name
