"""The tools' command lines: words without a flag, near misses, and the flags that users of the well-known suite type."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from library.errors import Problem, UserError
from library.options.declare import Tool, opt, options_of, word
from library.options.reading.help_text import help_of
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.latents import CacheLatents
from library.options.tool_groups.pictures import GenImg
from library.options.tool_groups.table import TOOLS
from tests.messages import refusals, refused

FLAGS = json.loads(Path(__file__).parents[1].joinpath("tool_flags.json").read_text(encoding="utf-8"))
ROOT = Path(__file__).parents[3]
# Newer than the list, or only in this suite; the tests of each tool test them.
BEYOND_THE_LIST = {
    "finetune/tag_images_by_wd14_tagger.py": {
        *("onnx", "caption_separator", "append_tags", "use_rating_tags", "use_rating_tags_as_last_tag", "character_tags_first"),
        *(
            "always_first_tags",
            "tag_replacement",
            "output_path",
            "use_quality_tags",
            "use_quality_tags_as_last_tag",
            "character_tag_expand",
        ),
        *("meta_threshold", "model_threshold", "copyright_threshold", "artist_threshold"),
    },
    "finetune/prepare_buckets_latents.py": {"alpha_mask"},
    "finetune/clean_captions_and_tags.py": {"rules"},
    "networks/merge_lora.py": {"concat", "shuffle", "no_metadata", "verbose", "max_error"},
    "networks/svd_merge_lora.py": {"lbws", "no_metadata", "verbose", "max_error"},
    "networks/resize_lora.py": {"svd_lowrank_niter", "new_conv_rank", "no_metadata", "max_error"},
    "networks/extract_lora_from_models.py": {
        *("min_diff", "clamp_quantile", "no_metadata", "verbose", "max_error", "v_parameterization"),
        *("load_precision", "load_original_model_to", "load_tuned_model_to"),
    },
    "networks/check_lora_weights.py": {"verbose", "show_all_keys", "s"},
}
OTHER_DEFAULTS = {("finetune/make_captions.py", "caption_weights")}  # a file that only BLIP's own code reads; ours is a name on the Hub


@dataclass(frozen=True)
class Group:
    """Files"""

    source: Path = word("Where it comes from.", path="folder")
    target: Path = word("Where it goes to.", path="new file")
    scale: float = opt(1.0, "How much larger it becomes.")
    names: tuple[str, ...] = opt((), "Names of several things at once.")
    fast: bool = opt(False, "Whether it should be done in a hurry.")


@dataclass(frozen=True)
class Copy(Tool):
    """Copy things."""

    name: ClassVar[str] = "tools/copy.py"

    files: Group


def problems(*argv: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        parse(Copy, argv)
    return error.value.problems


@pytest.mark.parametrize(
    "line",
    [
        "a b --scale 2 --fast",
        "--fast a b --scale 2",
        "--scale 2 a --fast b",
        "--scale=2 --fast a b",
        "a --fast \\ b --scale 2 ^",
        "--source a --fast b --scale 2",
    ],
)
def test_words_without_a_flag_may_stand_anywhere(line: str) -> None:
    files = parse(Copy, line.split()).files
    assert (files.source, files.target, files.scale, files.fast) == (Path("a"), Path("b"), 2.0, True)


def test_a_list_takes_all_words_up_to_the_next_flag() -> None:
    files = parse(Copy, "a b --names c d --fast".split()).files
    assert files.names == ("c", "d") and files.target == Path("b")


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("a", (("OPT-007", "target"),)),
        ("", (("OPT-007", "source"), ("OPT-007", "target"))),
        ("a b c", (("OPT-003", "'c'", "source target", "quotation marks"),)),
        ("a b --sclae 2", (("OPT-001", "--sclae", "--scale"),)),
        ("a b --fast false", (("OPT-005", "--fast", "'false'", "remove the option"),)),
        ("a b --scale x", (("OPT-006", "--scale", "'x'"),)),
        ("a b --network_dim 4", (("OPT-001", "--network_dim", "train_network.py", "remove it"),)),
    ],
)
def test_what_is_wrong_is_told_in_one_line_each(line: str, asked: tuple[tuple[str, ...], ...]) -> None:
    refusals(problems(*line.split()), *asked)


def test_the_help_shows_the_words_and_the_options() -> None:
    shown = help_of(Copy, 100)
    assert "usage: python tools/copy.py source target --option value ..." in shown
    assert "  source  " in shown and "--scale X" in shown and "--config_file" not in shown


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_the_stored_list_of_flags_is_that_of_the_specification(spec: type[Tool]) -> None:
    specification = ROOT.parent / "shared" / "spec" / "options.json"
    if not specification.is_file():
        pytest.skip("the specification is not next to this checkout")
    assert FLAGS.get(spec.name) == json.loads(specification.read_text(encoding="utf-8")).get(spec.name)


ROWS = [(spec, row) for spec in TOOLS for row in FLAGS.get(spec.name, ())]


@pytest.mark.parametrize(("spec", "row"), ROWS, ids=lambda part: getattr(part, "name", None) or str(part)[:50])
def test_a_flag_of_the_list_has_its_type_default_and_choices(spec: type[Tool], row: dict) -> None:
    options = {name: option for option in options_of(spec) for name in option.names}
    name = row.get("positional") or row["flags"][0].removeprefix("--")
    option = options[name]
    assert option.positional == ("positional" in row)
    if name in option.aliases:
        return  # another spelling has no separate default
    kind = "bool" if row.get("nargs") == 0 else row["type"]
    assert option.type.__name__ == kind or (option.type is Path and kind == "str")
    assert option.is_list == (row.get("nargs") == "*")
    assert set(option.choices) == {choice for choice in row.get("choices", ()) if choice is not None}
    if (spec.name, name) not in OTHER_DEFAULTS:
        default = row.get("default", () if option.is_list else None)
        assert option.default == (Path(default) if option.type is Path and default is not None else default)


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_words_stand_in_the_order_of_the_list_and_no_flag_is_unaccounted_for(spec: type[Tool]) -> None:
    rows = FLAGS.get(spec.name)
    if rows is None:
        pytest.skip("a tool of this suite only")
    options = options_of(spec)
    assert [option.field for option in options if option.positional] == [row["positional"] for row in rows if "positional" in row]
    listed = {row.get("positional") or row["flags"][0].removeprefix("--") for row in rows}
    assert {name for option in options for name in option.names} - listed == BEYOND_THE_LIST.get(spec.name, set())


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_every_option_has_a_line_of_help_in_plain_characters(spec: type[Tool]) -> None:
    for option in options_of(spec):
        assert len(option.help) > 20 and option.help[0].isupper() and option.help.isascii(), option.field


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_the_tool_prints_its_help_from_another_folder_without_loading_torch(spec: type[Tool], tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = [sys.argv[1], '--help']\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / spec.name)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python {spec.name}" in done.stdout


def test_paths_that_cannot_work_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "meta.json").touch()
    options = parse(Copy, [str(tmp_path / "pictrues"), str(tmp_path / "pictures")])
    with pytest.raises(UserError) as error:
        check_paths(options)
    refusals(
        error.value,
        ("PATH-001", f"source: {tmp_path / 'pictrues'}:", f"{tmp_path / 'pictures'}?"),
        ("PATH-002", f"target: {tmp_path / 'pictures'}", "name of the file"),
    )
    options = parse(Copy, [str(tmp_path / "meta.json"), str(tmp_path / "meta.json" / "out.json")])
    with pytest.raises(UserError) as error:
        check_paths(options)
    refusals(error.value, ("PATH-003", "source", tmp_path / "meta.json"), ("PATH-003", "target", tmp_path / "meta.json"))
    check_paths(options, idle={"source", "target"})
    check_paths(parse(Copy, [str(tmp_path / "pictures"), str(tmp_path / "new" / "out.json")]))


def test_files_that_are_an_unset_shell_variable_are_refused() -> None:
    with refused("OPT-004", "--network_weights"):
        parse(GenImg, ["--ckpt", "model.safetensors", "--prompt", "a", "--network_weights", "--outdir", "out"])


def test_the_tool_for_latents_refuses_what_only_a_training_uses() -> None:
    config = ["--dataset_config", "dog.toml"]
    parse(CacheLatents, [*config, "--caption_extension", ".txt"])
    with pytest.raises(UserError, match="--prior_prompt: unknown option"):
        parse(CacheLatents, [*config, "--prior_prompt", "dog"])
