"""Every option that names something on the disk, given every place that cannot be opened: one line that names it, and nothing waits.

The options are those of the declarations, so that a new one is tried without anybody thinking of it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from library.errors import UserError
from library.options.declare import Option, Script, Tool, options_of
from library.options.groups.scripts import SCRIPTS
from library.options.reading.parse import parse
from library.options.rules.check import check
from library.options.rules.declared_paths import fault_of
from library.options.tool_groups.table import TOOLS
from tests.paths.wrong_places import CODES, ONLY_READ, PARTS, another_user, in_time, made

LONGEST_LINE = 900
READ = ("file", "folder", "model", "folder that is filled")
WRITTEN = ("new file", "new weights", "new model", "new text", "new folder", "new file or folder")
# Texts whose names sound like paths and that are none, or are names on the Hub.
NO_PATHS = {
    "huggingface_path_in_repo",
    "resume_from_huggingface",
    "repo_id",
    "network_module",
    "load_original_model_to",
    "load_tuned_model_to",
    "always_first_tags",
    "metadata_merged_from",
    "metadata_preprocessor",
    "metadata_is_negative_embedding",
}
SOUND = ("_dir", "_path", "path_", "_file", "json", "weights", "model", "folder", "_to", "prefix", "config", "resume", "prompts", "vae")


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    with made() as folders:
        yield folders


@pytest.fixture(autouse=True)
def rings() -> Iterator[None]:
    with in_time():
        yield


def path_options(spec: type[Script]) -> list[Option]:
    return [option for option in options_of(spec) if option.path not in (None, "unused")]


def cases(specs: tuple[type[Script], ...]) -> list[object]:
    return [pytest.param(spec, option, id=f"{spec.name}-{option.field}") for spec in specs for option in path_options(spec)]


def good(option: Option, places: dict[str, str]) -> str:
    """A value that passes."""
    if option.path in WRITTEN or option.path == "folder that is filled":
        return str(Path(places["folder"]) / "new" / "name.safetensors")
    if option.path in ("part of a name", "part of a path"):
        return ".txt"
    return places["folder" if option.path == "folder" else "file"]


def start_script(spec: type[Script], option: Option, value: str, places: dict[str, str]) -> None:
    """Parse and check a training command that uses the option."""
    argv = ["--pretrained_model_name_or_path", places["file"], "--output_dir", places["folder"], "--resolution", "64"]
    argv += ["--sample_every_n_steps", "1", "--sample_prompts", places["file"]]
    argv += ["--train_data_dir", places["folder"], "--dry_run", "--logging_dir", places["folder"]]
    argv += ["--network_module", "networks.lora"] if spec.name == "train_network.py" else []
    argv += ["--token_string", "shs"] if "token_string" in spec.required else []
    check(parse(spec, [*argv, f"--{option.field}", value]))


def start_tool(spec: type[Tool], option: Option, value: str, places: dict[str, str]) -> None:
    """Start a tool with good values for all that it needs and names, and this one."""
    words = [value if one is option else good(one, places) for one in options_of(spec) if one.positional]
    argv = [] if option.positional else [f"--{option.field}", value]
    for one in options_of(spec):
        if one.field in spec.required and one is not option and one.path:
            argv += [f"--{one.field}", good(one, places)]
    importlib.import_module(spec.name.removesuffix(".py").replace("/", ".")).main([*words, *argv])


def refused(act: Callable[[], object], option: Option, code: str) -> None:
    """`act` is refused with one short line that names the option and ends with `code`."""
    with pytest.raises(UserError) as error:
        act()
    lines = [line for line in error.value.problems if option.field in line and (not code or line.code == code)]
    assert lines, error.value.lines
    assert len(lines[0]) < LONGEST_LINE and "\n" not in lines[0] and "did you mean" not in lines[0]
    lines[0].encode("utf-8")  # can be printed


@pytest.mark.parametrize(("spec", "option"), cases(SCRIPTS))
def test_a_script_refuses_each_place_in_one_line(spec: type[Script], option: Option, places: dict[str, str]) -> None:
    every_place(start_script, spec, option, places)


@pytest.mark.parametrize(("spec", "option"), cases(TOOLS))
def test_a_tool_refuses_each_place_in_one_line(spec: type[Tool], option: Option, places: dict[str, str]) -> None:
    if option.field == "report_html":
        pytest.skip("has no effect on tools")
    every_place(start_tool, spec, option, places)


def every_place(start: Callable[..., None], spec: type[Script], option: Option, places: dict[str, str]) -> None:
    if option.path in ("part of a name", "part of a path"):
        for name, value in PARTS.items():
            refused(lambda value=value: start(spec, option, value, places), option, "PATH-008" if name == "long" else "")
        return
    with another_user():
        for name, code in CODES.items():
            if name in places and not (name in ONLY_READ and option.path in WRITTEN):
                wrong_kind = {("unreadable", "folder"), ("closed folder", "file"), ("unreadable", "folder that is filled")}
                if (name, option.path) in wrong_kind or (name, option.field) in {("closed folder", "metadata_thumbnail")}:
                    code = ""
                refused(lambda name=name: start(spec, option, places[name], places), option, code)


@pytest.mark.parametrize("spec", (*SCRIPTS, *TOOLS), ids=lambda spec: spec.name)
def test_every_text_that_sounds_like_a_path_says_whether_it_is_one(spec: type[Script]) -> None:
    silent = {
        option.field
        for option in options_of(spec)
        if option.type is str and not option.choices and option.path is None and any(part in option.field for part in SOUND)
    }
    assert silent <= NO_PATHS | {"caption_prefix", "keep_tokens_separator", "huggingface_token"}


def test_the_scripts_have_some_thirty_such_options_and_the_tools_as_many() -> None:
    assert len({option.field for spec in SCRIPTS for option in path_options(spec)}) >= 24
    assert sum(len(path_options(spec)) for spec in TOOLS) >= 40


@pytest.mark.skipif(os.name == "nt", reason="has no such device")
def test_the_log_may_go_nowhere(places: dict[str, str]) -> None:
    option = next(one for one in options_of(SCRIPTS[0]) if one.field == "console_log_file")
    start_script(SCRIPTS[0], option, os.devnull, places)


@pytest.mark.parametrize("spec", (*SCRIPTS, *TOOLS), ids=lambda spec: spec.name)
def test_only_the_thumbnail_may_be_an_image_that_is_written_out(spec: type[Script]) -> None:
    paths = [option for option in options_of(spec) if option.path in ("file", "file or data URL", "folder")]
    passing = {option.field for option in paths if fault_of(option, "data:image/png;base64,AAAA") is None}
    assert passing == {option.field for option in paths} & {"metadata_thumbnail"}
