"""Modules that come when one of their names is used: what stands for the names behaves as they do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from library.light_imports.later import LaterModule, LaterName, left_for_later, nothing_left

ASKED = "from heavy.deep import Kind, double\nimport heavy.deep\nimport heavy\n"


@pytest.fixture(autouse=True)
def _heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that is left for later, and a module that asks for it."""
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text("import heavy.wide\nSIZE = 3\n")
    (tmp_path / "heavy" / "wide.py").write_text("")
    (tmp_path / "heavy" / "deep.py").write_text("class Kind:\n    colour = 'red'\n\ndef double(x):\n    return 2 * x\n")
    (tmp_path / "asks.py").write_text(ASKED)
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield
    assert sys.meta_path == finders
    for name in [name for name in sys.modules if name.split(".")[0] in ("heavy", "asks")]:
        del sys.modules[name]


def asks() -> object:
    with left_for_later(["heavy"]):
        module = importlib.import_module("asks")
    assert not [name for name in sys.modules if name.startswith("heavy")]
    return module


def test_a_name_is_imported_when_it_is_called() -> None:
    module = asks()
    assert isinstance(module.double, LaterName)
    assert module.double(4) == 8 and "heavy.deep" in sys.modules and not isinstance(sys.modules["heavy"], LaterModule)


def test_nothing_is_an_instance_before_the_class_is_imported_and_then_what_is_one() -> None:
    module = asks()
    assert not isinstance(3, module.Kind) and not issubclass(int, module.Kind) and "heavy" not in sys.modules
    from heavy.deep import Kind

    class Derived(Kind):
        pass

    assert isinstance(Kind(), module.Kind) and isinstance(Derived(), (int, module.Kind)) and issubclass(Derived, module.Kind)
    assert not isinstance(3, module.Kind)


def test_a_class_can_be_derived_from_called_asked_and_written_in_annotations() -> None:
    module = asks()
    annotation: object = module.Kind | None
    assert annotation is not None and (None | module.Kind) is not None and "heavy" not in sys.modules
    assert module.Kind.__name__ == "Kind" and "heavy" not in sys.modules
    assert module.Kind.colour == "red"

    class Derived(module.Kind):
        pass

    assert Derived.colour == "red" and type(module.Kind()).__name__ == "Kind"


def test_a_module_that_was_kept_gives_the_names_of_the_real_one_and_what_is_below_it() -> None:
    module = asks()
    assert module.heavy.SIZE == 3 and module.heavy.deep.double(1) == 2
    with pytest.raises(ModuleNotFoundError):
        module.heavy.nowhere  # noqa: B018


def test_what_is_used_inside_is_imported_whole_and_no_stand_in_is_left_in_it() -> None:
    with left_for_later(["heavy"]):
        module = importlib.import_module("asks")
        assert module.double(2) == 4
        import heavy
        import heavy.wide

        assert heavy.SIZE == 3 and not isinstance(heavy.wide, LaterModule)
    assert not [name for name, module in sys.modules.items() if isinstance(module, LaterModule)]


def test_what_is_imported_for_good_gets_no_stand_ins() -> None:
    with left_for_later(["heavy"]):
        import heavy.deep

        assert isinstance(heavy.deep, LaterModule)
        with nothing_left():
            import asks

            assert asks.double.__module__ == "heavy.deep" and not isinstance(asks.double, LaterName)


def test_what_is_imported_already_is_what_it_is_and_a_fault_inside_leaves_nothing() -> None:
    import heavy.deep

    with pytest.raises(KeyError), left_for_later(["heavy"]):
        import asks

        assert asks.Kind is heavy.deep.Kind
        raise KeyError
