"""Whole commands, run and dry run, over every place that cannot be opened: exit code 2, lines alone, nothing written, no waiting."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from library.console import EXIT_FAULT, run_script
from library.options.declare import Option, Script
from library.options.groups.scripts import SCRIPTS
from tests.paths.test_options import path_options
from tests.paths.wrong_places import CODES, ONLY_READ, PARTS, another_user, in_time, made

OFFLINE = {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    with made() as folders:
        yield folders


def cases() -> list[object]:
    """Each script with its separate options, the first one with all that they share."""
    seen: set[str] = set()
    listed = []
    for spec in SCRIPTS:
        options = [option for option in path_options(spec) if option.field not in seen]
        seen |= {option.field for option in options}
        if options:
            listed.append(pytest.param(spec, options, id=spec.name))
    return listed


def command(spec: type[Script], places: dict[str, str], dry: bool) -> list[str]:
    out = str(Path(places["folder"]) / "new")
    argv = ["--pretrained_model_name_or_path", places["file"], "--output_dir", out, "--resolution", "64", "--sample_at_first"]
    argv += ["--train_data_dir", places["folder"], "--sample_prompts", places["file"], "--logging_dir", out]
    argv += ["--network_module", "networks.lora"] if spec.name == "train_network.py" else []
    argv += ["--token_string", "shs"] if "token_string" in spec.required else []
    return [*argv, "--dry_run"] if dry else argv


@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
@pytest.mark.parametrize(("spec", "options"), cases())
def test_a_command_ends_with_lines_that_name_the_option(
    spec: type[Script], options: list[Option], dry: bool, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(spec.name.removesuffix(".py")).main
    before = contents(places["folder"])
    for option in options:
        written = option.path in ("new file", "new weights", "new text", "new folder")
        names = [name for name in CODES if name in places and not (name in ONLY_READ and written)]
        values = PARTS if option.path in ("part of a name", "part of a path") else {name: places[name] for name in names}
        for name, value in values.items():
            if option.field == "report_html" and not dry:
                continue
            with in_time(), another_user():
                code = run_script(main, [*command(spec, places, dry), f"--{option.field}", value])
            out, err = capsys.readouterr()
            assert code == EXIT_FAULT, (option.field, name)
            assert "Traceback" not in out + err
            lines = [line for line in (out + err).splitlines() if option.field in line]
            assert lines and all(len(line) < 900 for line in lines), (option.field, name, out + err)
    assert contents(places["folder"]) == before


def contents(folder: str) -> list[Path]:
    return sorted(Path(folder).parent.rglob("*"))
