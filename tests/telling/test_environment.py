"""Variables that a package cannot use are named, and other errors stay what they are."""

from __future__ import annotations

import pytest

from library.telling.environment import variables_named
from tests.messages import refused


def test_the_variable_whose_value_the_package_quotes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "abc")
    with refused("OPT-006", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS='abc'") as error, variables_named():
        Accelerator()
    assert "ACCELERATE_USE_CPU" not in str(error.value)


def test_an_error_about_something_else_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ValueError, match="shape"), variables_named():
        raise ValueError("wrong shape")
