"""Packages that run when they are asked for a name of theirs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from library.light_imports.late_package import fetch, put_off


@pytest.fixture(autouse=True)
def _outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """outer.inner, which imports all of its modules, of which `one` is wanted alone."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("from .one import ONE\nfrom .two import TWO\n")
    (inner / "one.py").write_text("ONE = 1\n")
    (inner / "two.py").write_text("TWO = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("outer")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "outer"]:
        del sys.modules[name]


def test_one_module_comes_alone_and_the_others_when_the_package_is_asked() -> None:
    put_off("outer.inner")
    one = importlib.import_module("outer.inner.one")
    import outer

    assert "outer.inner.two" not in sys.modules and outer.inner.one is one and not hasattr(outer.inner, "__wrapped__")
    assert outer.inner.TWO == 2 and "outer.inner.two" in sys.modules and sys.modules["outer.inner.one"] is one
    with pytest.raises(AttributeError, match=r"module 'outer.inner' has no attribute 'THREE'"):
        outer.inner.THREE  # noqa: B018


def test_names_can_be_imported_from_it_and_it_can_be_had_run() -> None:
    put_off("outer.inner")
    fetch("outer.inner")
    assert "outer.inner.two" in sys.modules
    from outer.inner import ONE, TWO

    assert (ONE, TWO) == (1, 2)


def test_a_package_that_puts_another_module_in_its_place_answers_through_that(tmp_path: Path) -> None:
    code = "import sys, types\nother = types.ModuleType(__name__)\nother.FOUR = 4\nsys.modules[__name__] = other\n"
    (tmp_path / "outer" / "inner" / "__init__.py").write_text(code)
    put_off("outer.inner")
    import outer

    assert outer.inner.FOUR == 4


def test_what_is_no_package_or_imported_already_is_left_alone() -> None:
    put_off("outer.inner.one")
    assert "outer.inner.one" not in sys.modules or sys.modules["outer.inner.one"].ONE == 1
    before = importlib.import_module("outer.inner")
    put_off("outer.inner")
    put_off("outer.nothing")
    assert sys.modules["outer.inner"] is before and "outer.nothing" not in sys.modules
