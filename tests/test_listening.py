"""A test hears each line of the suite's logger once, in whatever state earlier tests have left it."""

import pytest

from library import console
from library.console import log
from tests.listening import listening


@pytest.mark.parametrize("propagates", [True, False])
@pytest.mark.parametrize("set_up", ["never", "before", "inside"])
def test_each_line_is_heard_once(set_up: str, propagates: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(log, "handlers", list(log.handlers))
    monkeypatch.setattr(log, "propagate", log.propagate)
    if set_up == "before":
        console.setup()
    level = log.level
    with listening() as heard:
        if set_up == "inside":
            console.setup()
        log.propagate = propagates
        log.info("one of %d", 2)
        log.warning("two")
    log.warning("not heard")
    assert heard.lines == ["one of 2", "two"] and heard.warnings == ["two"] and log.level == level


def test_the_fixture_hears_what_is_said_after_a_script_has_set_the_logger_up(heard, capsys: pytest.CaptureFixture) -> None:
    assert console.run_script(lambda argv: log.warning("once"), []) == 0
    assert heard.warnings == ["once"]
