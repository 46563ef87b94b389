"""What a message offers to paste, a line of TOML or a part of a command, is valid for any name that a folder can have."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import toml
import torch
from safetensors.torch import save_file

from examples import quickstart
from library.data.scan.records import scan
from library.errors import UserError
from library.parsing.toml_text import escaped_string, parse_toml, toml_string
from library.paths.shell_words import shell_word
from library.training.logs.tensorboard_log import Tracker
from library.training.states.saved_state import read_own
from tests.contracts.test_layers import ROOT
from tests.data.material import photo, read
from tests.scripts.running import run_in_process
from tools import config_from_run

NAMES = ["photos", "my photos", "O'Brien", "50% & more", "a$HOME b", "back`tick`", "a#b = [c]", "犬の写真", "“quoted” ‘too’", "it's $5"]
ODD = [*NAMES, 'double "quotes"', "'", "a'b\"c", "back\\slash", "\ttab", "end\\"]


@pytest.mark.parametrize("text", [*ODD, "", "line\nbreak", "\x7f\x01", r"C:\photos\new", r"C:\O'Brien\x", "\\\\server\\share's"])
def test_a_toml_string_is_read_back(text: str) -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11
    for write in (toml_string, escaped_string):
        line = f"a = {write(text)}"
        assert parse_toml(line) == toml.loads(line) == tomllib.loads(line) == {"a": text}


@pytest.mark.parametrize("text", ["", *ODD])
def test_a_word_of_a_command_is_read_back_by_bash(text: str) -> None:
    assert shlex.split(f"--a {shell_word(text, windows=False)} --b") == ["--a", text, "--b"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("cat.toml", "cat.toml"),
        ("O'Brien", '"O\'Brien"'),  # as cmd, PowerShell and bash all read it
        ("C:\\my photos\\", '"C:\\my photos\\\\"'),  # \" would be a quote
        ("50% & more", '"50% & more"'),
        ("a,b", '"a,b"'),  # PowerShell would make a list
        ("a$HOME's", "'a$HOME''s'"),  # PowerShell: nothing between single quotes is expanded
        ("“a” ’b", "'“a” ’’b'"),  # PowerShell takes typographic quotes for quotes
        ("back`tick", "'back`tick'"),
    ],
)
def test_a_word_of_a_command_has_the_quotes_of_windows(text: str, written: str) -> None:
    assert shell_word(text, windows=True) == written


def _after(key: str, line: str) -> str:
    """The value of `key = …` in a message, which is valid TOML up to one of the places where it may end."""
    rest = line.partition(f"{key} = ")[2]
    for end in (*(match.start() for match in re.finditer(r"[,; ]", rest)), len(rest)):
        try:
            return str(toml.loads(f"{key} = {rest[:end]}")[key])
        except (toml.TomlDecodeError, IndexError):
            continue
    raise AssertionError(f"no valid value of {key} in: {line}")


def _option(flag: str, line: str) -> str:
    """The value of the last `--flag value` in a message, as bash reads it."""
    rest = line[line.rindex(f"{flag} ") :].rstrip(")`")
    return shlex.split(rest.split(";")[0])[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_that_a_config_should_name_is_valid_toml(name: str, tmp_path: Path) -> None:
    photo(tmp_path / "set" / name / "a.png", (64, 64))
    config = f"[general]\nresolution = 64\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{(tmp_path / 'set').as_posix()}'\n"
    with pytest.raises(UserError) as error:
        scan(read(tmp_path, config + "class_tokens = 'x'\n"))
    assert _after("image_dir", str(error.value).splitlines()[0]) == str(tmp_path / "set" / name)


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_file_that_a_config_should_name_is_valid_toml(name: str, tmp_path: Path) -> None:
    photo(tmp_path / name / "a.png", (64, 64))
    (tmp_path / name / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n', encoding="utf-8")
    config = f"[general]\nresolution = 64\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = {toml_string((tmp_path / name).as_posix())}\n"
    with pytest.raises(UserError) as error:
        scan(read(tmp_path, config))
    assert _after("metadata_file", str(error.value)) == str(tmp_path / name / "metadata.jsonl")


@pytest.mark.skipif(shell_word("$") != "'$'", reason="bash reads the words of another system")
@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_commands_in_messages_are_words_of_bash(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / name
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, folder / "a.safetensors", {"ss_network_module": "networks.lora"})
    assert run_in_process(config_from_run.main, folder / "a.safetensors", folder / "out.toml") == 0
    said = capsys.readouterr()
    assert _option("--config_file", said.out + said.err) == str(folder / "out.toml")
    (folder / "x-state").mkdir()
    (folder / "x-state" / "state.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_own(folder)
    assert _option("--resume", str(error.value)) == str(folder / "x-state")
    log = Tracker(folder / "logs")
    assert _option("--logdir", log.place()) == str(folder / "logs")
    log.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_quickstart_writes_a_config_and_shows_a_command_for_any_folder(name: str, tmp_path: Path) -> None:
    images, config, prompts = quickstart._write_inputs(quickstart.SUBJECT, tmp_path / name)
    (subset,) = toml.loads(config.read_text(encoding="utf-8"))["datasets"][0]["subsets"]
    assert Path(subset["image_dir"]) == images[0].parent
    command = quickstart._command(quickstart.SUBJECT, tmp_path / "m", config, prompts, tmp_path / name, [])
    if shell_word("$") == "'$'":
        assert shlex.split(quickstart._as_typed(command).replace("\\\n", " "))[2:] == command


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_writes_a_config_for_any_folder_and_word(name: str, tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples" / "train_lora.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = ("".join(cell["source"]) for cell in cells if "CONFIG.write_text" in "".join(cell["source"]))
    photo(tmp_path / name / "images" / "a.png", (64, 64))
    settings = {
        "RESOLUTION": 64,
        "BATCH_SIZE": 1,
        "REPEATS": 1,
        "EPOCHS": 1,
        "RANK": 1,
        "LEARNING_RATE": 1,
        "PRECISION": "no",
        "PROMPTS": [],
    }
    words = {"IDENTIFIER": name, "CLASS": "dog", "NAME": "dog", "MODEL": "m", "MODEL_OPTIONS": [], "SAMPLE_OPTIONS": ""}
    exec(cell, {"WORK": tmp_path / name, "COLAB": False, "Path": Path, "display": str} | settings | words)
    (subset,) = toml.loads((tmp_path / name / "dataset.toml").read_text(encoding="utf-8"))["datasets"][0]["subsets"]
    assert (subset["image_dir"], subset["class_tokens"]) == ((tmp_path / name / "images").as_posix(), f"{name} dog")
