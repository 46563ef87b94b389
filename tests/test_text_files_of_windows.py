"""Text files as editors and shells of Windows write them: a BOM and CRLF are read over, UTF-16 is told, with or without its mark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from library.data.config.config_text import read_metadata_table, read_tree
from library.data.scan.caption_files import read_caption
from library.errors import UserError
from library.model.file_tools.metadata_edit import entries_of
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.pictures.prompt_files import read_prompts
from library.preparation.cleaning_rules import read_rules
from library.preparation.text_files import read_text_file

Reader = Callable[[Path], object]


def options_of(path: Path) -> TrainNetwork:
    return parse(TrainNetwork, ["--config_file", str(path)])


# name, text, reader, what it then gives
FILES: dict[str, tuple[str, str, Reader, object]] = {
    "--config_file": ("c.toml", "[saving]\noutput_name = 'cat'\n", lambda path: options_of(path).saving.output_name, "cat"),
    "--dataset_config": ("d.toml", "[general]\nresolution = 64\n", lambda path: read_tree(path, "x"), {"general": {"resolution": 64}}),
    "metadata": ("m.json", '{\n"a": {"caption": "b"}}\n', lambda path: read_metadata_table(path, "x")[0], {"a": {"caption": "b"}}),
    "caption": ("a.caption", "a cat\n", lambda path: read_caption(path).text, "a cat"),
    "a tool's caption": ("a.txt", "a cat\n", lambda path: read_text_file(path).splitlines(), ["a cat"]),
    "--sample_prompts": ("p.txt", "a cat\n", lambda path: [prompt.prompt for prompt in read_prompts(path)[0]], ["a cat"]),
    "cleaning rules": ("r.toml", "[tags]\nremove = ['cat']\n", lambda path: read_rules(path, "x").tags.remove, ("cat",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("form", ["BOM", "CRLF", "plain"])
def test_marks_and_ends_of_lines_are_read_over(kind: str, form: str, tmp_path: Path) -> None:
    name, text, read, expected = FILES[kind]
    data = text.encode() if form == "plain" else text.replace("\n", "\r\n").encode("utf-8-sig" if form == "BOM" else "utf-8")
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == expected


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])  # the first with its mark
def test_utf16_is_told_and_never_read_as_text(kind: str, encoding: str, tmp_path: Path) -> None:
    name, text, read, _ = FILES[kind]
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
    with pytest.raises((UserError, UnicodeDecodeError)):
        read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_show_metadata_printed_into_a_file_is_read_in_whatever_encoding_the_shell_chose(encoding: str, tmp_path: Path) -> None:
    """`show_metadata.py --json > a.json` in PowerShell 5 makes UTF-16."""
    (tmp_path / "a.json").write_bytes(json.dumps({"title": "고양이"}, ensure_ascii=False).encode(encoding))
    assert entries_of(tmp_path / "a.json", []) == {"title": "고양이"}
