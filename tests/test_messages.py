"""A test that asks a message for another code, place or value than it has fails."""

from __future__ import annotations

import pytest

from library.errors import UserError, coded
from tests.messages import message, refusal, refusals, refused

ERROR = UserError(coded("OPT-006", "--seed: expected a whole number, not '1.5'"), coded("PATH-001", "--vae: 13.pt: no such file"))


def test_code_place_and_value_are_in_one_line() -> None:
    assert refusal(ERROR, "OPT-006", "--seed", "'1.5'").startswith("--seed: expected")
    assert refusal(ERROR.problems, "PATH-001", "--vae", "13.pt") == refusal("\n".join(ERROR.lines), "PATH-001")
    with refused("PATH-001", "13.pt"):
        raise ERROR


@pytest.mark.parametrize(
    "names",
    [("OPT-007", "--seed"), ("OPT-006", "--vae"), ("OPT-006", "1"), ("OPT-006", "5"), ("PATH-001", "3.pt"), ("PATH-001", "file", "--seed")],
)
def test_another_code_another_place_and_a_part_of_a_number_are_not_it(names: tuple[str, ...]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"--vae: 13\.pt"):
        refusal(ERROR, *names)


def test_lines_without_a_code_are_asked_for_names_and_figures() -> None:
    lines = ["latents: 2 of 12 images", "time: 0.25 s"]
    assert message(lines, 2, 12) == message("\n".join(lines), "12 images") == lines[0]
    with pytest.raises(pytest.fail.Exception):
        message(lines, "12", "0.25")


def test_lines_that_are_missing_or_too_many_or_in_another_order_are_noticed() -> None:
    seed, vae = ("OPT-006", "--seed"), ("PATH-001", "--vae")
    refusals(ERROR, seed, vae)
    for wrong in ((seed,), (seed, vae, vae)):
        with pytest.raises(AssertionError, match="2 lines instead of"):
            refusals(ERROR, *wrong)
    with pytest.raises(pytest.fail.Exception):
        refusals(ERROR, vae, seed)
