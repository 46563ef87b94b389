"""Every number that a user gives has a smallest and a largest value; what is beyond them ends in one line that says the range."""

from __future__ import annotations

import pytest

from library.data.config.keys import KEYS, NotAccepted
from library.options.declare import Option, Script, options_of
from library.options.groups.scripts import SCRIPTS
from library.options.reading.command_line import read
from library.options.reading.values import from_toml
from library.options.tool_groups.table import TOOLS

WORDS = (
    "9999999999999999999",
    "-9999999999999999999",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e400",
    "9" * 400,
    "9" * 5_000,
    "²",
    "0x10",
    "1e19",
)
VALUES = (10**19, -(10**19), float("nan"), float("inf"), float("-inf"), 10**299, 1e300)


def numbers(spec: type[Script]) -> list[Option]:
    return [option for option in options_of(spec) if option.type in (int, float) and not option.choices]


@pytest.mark.parametrize("spec", (*SCRIPTS, *TOOLS), ids=lambda spec: spec.name)
def test_every_number_has_a_range_and_is_refused_beyond_it(spec: type[Script]) -> None:
    for option in numbers(spec):
        assert option.at_least is not None and option.at_most is not None, f"{spec.name} {option.flag}: say at_least and at_most"
        assert option.at_least <= (option.default if isinstance(option.default, int | float) else option.at_least) <= option.at_most
        for word in WORDS:
            found = read([option], [option.flag, word])
            assert not found.problems or "\n" not in found.problems[0]
            if option.leniency.negative_is_off and word.startswith("-9"):
                continue
            assert len(found.problems) == 1 and len(found.problems[0]) < 300, (option.flag, word)
            assert f" from {option.at_least:g}" in found.problems[0] or str(option.at_least) in found.problems[0], found.problems
        for value in VALUES:
            if not (option.leniency.negative_is_off and value < 0):
                with pytest.raises(ValueError, match=r"expected .* from "):
                    from_toml(option, value)


@pytest.mark.parametrize("key", KEYS)
def test_no_dataset_key_takes_a_number_that_is_none(key: str) -> None:
    for value in VALUES:
        for written in (value, [value, value], str(value)):
            try:
                KEYS[key].check(written)
            except NotAccepted as reason:
                assert len(str(reason)) < 300
            else:
                assert isinstance(written, str), (key, written)


@pytest.mark.parametrize("spec", (*SCRIPTS, *TOOLS), ids=lambda spec: spec.name)
@pytest.mark.parametrize("empty", ["", "  ", "\t"])
def test_an_empty_value_is_an_error_for_every_option_that_takes_one(spec: type[Script], empty: str) -> None:
    for option in options_of(spec):
        if option.type is bool or option.positional or option.leniency.empty_is_value:
            continue
        is_text = option.type is str and option.path is None and not option.choices
        found = read(options_of(spec), [option.flag, empty])
        if empty and is_text:  # a blank or a tab may be what separates tags
            assert found.values[option.field] in (empty, (empty,))
        else:
            (problem,) = found.problems
            assert option.flag in problem and "empty" in problem


def test_what_may_be_empty_is_what_sd_scripts_has_a_meaning_for() -> None:
    lenient = {option.field for spec in (*SCRIPTS, *TOOLS) for option in options_of(spec) if option.leniency.empty_is_value}
    assert lenient == {"caption_extension"}


def test_nothing_behind_the_equals_sign_counts_as_not_given_and_is_told() -> None:
    found = read(options_of(SCRIPTS[0]), ["--vae=", "--resume=", "--optimizer_args="])
    assert not found.problems and len(found.warnings) == 3 and found.values == {"vae": None, "resume": None}


def test_an_empty_word_of_a_tool_is_an_error_and_does_not_move_the_others() -> None:
    spec = next(one for one in TOOLS if one.name.endswith("convert_diffusers20_original_sd.py"))
    found = read(options_of(spec), ["", "out.safetensors"])
    assert any("an argument is empty" in problem for problem in found.problems)
