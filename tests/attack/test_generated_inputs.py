"""Wrong inputs out of the declarations, as whole commands: every refusal is clean lines, in time, and nothing is written.

A share runs always, always the same; `make test-slow` tries thousands. A failure names the command that tries it again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from library.data.config.keys import KEYS
from library.options.declare import options_of
from library.options.groups.scripts import SCRIPTS
from library.options.tool_groups.table import TOOLS
from tests.attack import commands, fork_server
from tests.attack.cases import SPECS, case, targets
from tests.attack.fork_server import Answer, ForkServer
from tests.attack.surroundings import COMMANDS
from tests.attack.trial import Counts, attack, judge

posix = pytest.mark.skipif(os.name == "nt", reason="commands are tried in forked processes, which Windows has not")
SHARE, SECONDS = 150, 15.0  # beside what it takes to start
ALL = 3_000
REFUSED = Answer(2, 0.1, 0.1, "", "warning: w\nerror: --seed: x\n")
PLACES = {"file": "/x/file", "pipe": "/x/pipe"}


def assert_all_end_well(counts: Counts) -> None:
    print(counts.text())
    assert not counts.failures, counts.text()


@posix
def test_a_share_of_the_wrong_inputs_ends_well(server: ForkServer) -> None:
    counts = attack(server, 0, range(SHARE), seconds=SECONDS)
    assert_all_end_well(counts)
    assert counts.outcomes["refused"] > counts.outcomes["accepted"] > 0


@posix
@pytest.mark.slow
def test_thousands_of_wrong_inputs_end_well(server: ForkServer) -> None:
    assert_all_end_well(attack(server, 1, range(ALL)))


def test_every_option_key_and_command_is_attacked() -> None:
    names = {target.name for target in targets()}
    for spec in (*SCRIPTS, *TOOLS):
        kind = "training" if spec in SCRIPTS else spec.name
        assert {f"{kind} --{option.field}" for option in options_of(spec)} <= names, f"{spec.name} lacks some"
    assert {f"dataset key {key}" for key in KEYS} <= names
    assert set(COMMANDS) == set(SPECS), "add a sound command of the new script or tool to tests/attack/surroundings.py"


def test_all_targets_come_by_in_turn_and_a_number_is_always_the_same_case() -> None:
    count = len(targets())
    first = [case(5, number, PLACES) for number in range(count)]
    again = [case(5, number, PLACES) for number in range(count)]
    assert [(one.script, one.argv, one.what) for one in first] == [(one.script, one.argv, one.what) for one in again]
    assert {one.script for one in first} == set(SPECS)
    assert [one.what for one in first] != [case(6, number, PLACES).what for number in range(count)]


@pytest.mark.parametrize(
    ("outcome", "answer", "written"),
    [
        ("refused", {}, []),
        ("wrote something", {}, ["work/out"]),
        ("accepted", {"code": 0, "stderr": ""}, ["work/out"]),
        ("hang", {"code": None}, []),
        ("slow", {"cpu": 11.0}, []),
        ("slow", {"cpu": 11.0, "code": 1}, []),
        ("accepted", {"cpu": 60.0, "code": 0, "stderr": ""}, []),
        ("killed by signal 11", {"code": -11}, []),
        ("exit code 1", {"code": 1}, []),
        ("exit code 3", {"code": 3}, []),
        ("no line says why", {"stderr": "it is wrong\n"}, []),
        ("traceback", {"stderr": 'error: x\nTraceback (most recent call last):\n  File "x.py", line 1\n'}, []),
        ("a warning of a package", {"stderr": "/x/y.py:12: UserWarning: odd\nerror: x\n"}, []),
        ("control characters", {"stderr": "error: \x1b[31m\n"}, []),
        ("Python's own advice", {"stderr": "error: use sys.set_int_max_str_digits()\n"}, []),
        ("a line without an end", {"stderr": f"error: {'x' * 3_000}\n"}, []),
    ],
)
def test_the_judge_finds_what_is_wrong(outcome: str, answer: dict[str, Any], written: list[str]) -> None:
    assert judge("train_network.py", replace(REFUSED, **answer), written) == outcome


def test_a_tool_may_say_what_it_could_not_do() -> None:
    done = replace(REFUSED, code=1)
    assert judge("tools/show_metadata.py", done, ["work/new"]) == "partly done"


@posix
def test_a_command_that_breaks_waits_or_eats_memory_is_caught(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself, with scripts that do what none of ours may."""
    for name, code in {"breaks": "raise ValueError('x')", "waits": "import time; time.sleep(60)", "eats": "x = b'1' * (1 << 40)"}.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr(commands, "_limit", lambda: None)
    outputs = {name: str(tmp_path / name) for name in ("stdout", "stderr")}
    answers = {}
    for name in ("breaks", "waits", "eats"):
        given = {"script": f"{name}.py", "argv": []}
        request = {"function": "tests.attack.commands:run", "given": given, "cwd": str(tmp_path), "seconds": 3.0, **outputs}
        answers[name] = (fork_server.answer(request)["code"], (tmp_path / "stderr").read_text(encoding="utf-8"))
    assert answers["breaks"][0] == 1 and "ValueError: x" in answers["breaks"][1]
    assert answers["waits"][0] is None
    assert answers["eats"][0] == 1 and "MemoryError" in answers["eats"][1]
