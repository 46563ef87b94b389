"""Every command on the pages of the tools runs as it stands there, one after the other, on a tiny model."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.scripts.running import run_in_process

ROOT = Path(__file__).parents[2]


def commands(page: str) -> list[list[str]]:
    """The tool commands of a page: the script and its options."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [shlex.split(found.replace("\\\n", " "))[1:] for found in re.findall(r"^    python (?:.*\\\n)*.*$", text, re.MULTILINE)]


@pytest.mark.parametrize(("page", "count"), [("lora_tools.md", 8), ("convert.md", 5)])
def test_the_commands_of_a_page_run(page: str, count: int, tiny_v1: Path, files, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_v1, "v1-5-pruned-emaonly.safetensors")
    shutil.copy(files["a"], "dog.safetensors")
    shutil.copy(files["c"], "style.safetensors")
    found = commands(page)
    assert len(found) == count
    for script, *options in found:
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        assert run_in_process(module.main, *options) == 0, (script, capsys.readouterr().err)
        if "--save_to" in options and "dylora" not in script:
            assert Path(options[options.index("--save_to") + 1]).is_file()


def test_both_pages_are_linked_and_name_every_tool() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("lora_tools.md", "convert.md"))
    from library.options.tool_groups.formats import FORMAT_TOOLS
    from library.options.tool_groups.lora import LORA_TOOLS

    assert "docs/lora_tools.md" in readme and "docs/convert.md" in readme
    assert [spec.name for spec in (*LORA_TOOLS, *FORMAT_TOOLS) if spec.name not in text] == []
