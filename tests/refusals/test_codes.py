"""Each kind of refusal has one code for good, the code is used, and the page explains it."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from library.console import EXIT_FAULT, EXIT_PARTLY_DONE, run_script
from library.errors import PartlyDone, Problem, UserError, coded
from library.refusals import docs
from library.refusals.refusal import Refusal
from library.refusals.table import AREAS, REFUSALS
from tests.contracts.test_layers import ROOT, source_files
from tests.contracts.test_pages import anchors

CODE = re.compile(r"[A-Z]+-\d{3}")
ALL = [refusal for area in AREAS for refusal in area.refusals]


def test_the_page_is_that_of_the_registry() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run `make docs`"


@pytest.mark.parametrize("refusal", ALL, ids=[refusal.code for refusal in ALL])
def test_every_kind_says_what_it_means_and_what_to_do_and_leads_to_a_page(refusal: Refusal) -> None:
    assert refusal.meaning.endswith(".") and refusal.remedy.endswith(".")
    name, _, anchor = refusal.page.partition("#")
    assert (docs.PAGE.parent / name).is_file()
    assert not anchor or anchor in anchors(docs.PAGE.parent / name)


def test_codes_are_numbered_without_gaps_in_their_areas() -> None:
    assert len(REFUSALS) == len(ALL)
    assert len({area.name for area in AREAS}) == len(AREAS)
    for area in AREAS:
        assert [refusal.code for refusal in area.refusals] == [f"{area.name}-{number:03d}" for number in range(1, len(area.refusals) + 1)]


def test_a_problem_is_its_text_and_keeps_its_code_through_pickling_and_rewording() -> None:
    problem = coded("DATA-001", "image a.png: cannot be read")
    assert problem == str(problem) == f"{problem}" == "image a.png: cannot be read"
    assert problem.line == "image a.png: cannot be read [SD-DATA-001]"
    again = pickle.loads(pickle.dumps(problem))
    assert type(again) is Problem and again == problem and again.code == "DATA-001"
    assert problem.reworded("in worker 3: " + problem).line == "in worker 3: image a.png: cannot be read [SD-DATA-001]"


def test_a_user_error_keeps_the_codes_through_pickling_and_tells_them_at_the_lines_ends() -> None:
    fault = PartlyDone(coded("DATA-001", "image a.png: cannot be read"), coded("TOOL-001", "everything else is done"))
    again = pickle.loads(pickle.dumps(fault))
    assert type(again) is PartlyDone and again.lines == fault.lines
    assert again.lines == ("image a.png: cannot be read [SD-DATA-001]", "everything else is done [SD-TOOL-001]")
    assert str(again) == "image a.png: cannot be read\neverything else is done"


def test_a_code_that_is_not_in_the_registry_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        coded("DATA-999", "image a.png: cannot be read")


@pytest.mark.parametrize(("kind", "exit_code"), [(UserError, EXIT_FAULT), (PartlyDone, EXIT_PARTLY_DONE)])
def test_a_script_ends_with_lines_that_end_with_codes(
    kind: type[UserError], exit_code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def main(argv: object) -> None:
        raise kind(coded("DATA-001", "image a.png: cannot be read"), coded("DATA-004", "caption a.txt: is not UTF-8"))

    assert run_script(main, []) == exit_code
    assert capsys.readouterr().err.splitlines() == [
        "error: image a.png: cannot be read [SD-DATA-001]",
        "error: caption a.txt: is not UTF-8 [SD-DATA-004]",
    ]


def code_words() -> dict[str, set[str]]:
    """The codes that the code gives to lines, with the files that do so."""
    used: dict[str, set[str]] = {}
    for path in source_files():
        if path.is_relative_to(ROOT / "library" / "refusals"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                used.setdefault(node.value, set()).add(path.name)
    return used


def test_every_code_is_used_and_every_used_code_is_in_the_registry() -> None:
    used = code_words()
    assert sorted(REFUSALS.keys() - used.keys()) == []
    assert {code: files for code, files in used.items() if code not in REFUSALS} == {}


def test_every_code_is_what_some_test_asks_for() -> None:
    """A kind of refusal that no test reaches may have a wrong line, or none: write a test that ends with its code."""
    asked: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        if path != Path(__file__):  # names codes as examples
            lines = path.read_text(encoding="utf-8").splitlines()
            asked.update(code for line in lines if "coded(" not in line for code in CODE.findall(line))  # coded(…): made up by a test
    assert sorted(REFUSALS.keys() - asked) == []


def test_no_line_of_an_error_is_without_a_code() -> None:
    """mypy refuses texts for problems where it sees types; this sees them in the scripts too, which it checks less strictly."""
    bare = []
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("UserError", "PartlyDone"):
                bare += [f"{path.name}:{node.lineno}" for part in node.args if is_text(part)]
    assert bare == []


def is_text(node: ast.expr) -> bool:
    """Whether it is a text as it stands, or a series of them."""
    if isinstance(node, ast.Starred):
        return is_text(node.value)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return is_text(node.elt)
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_a_line_without_a_code_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        UserError("image a.png: cannot be read")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("argv", "codes"),
    [
        (["train_network.py", "--no_such_option"], ["SD-OPT-001"]),
        (["train_network.py", "--network_dim", "0", "--seed"], ["SD-OPT-006", "SD-OPT-004"]),
        (["train_db.py", "--config_file", "missing.toml"], ["SD-PATH-001"]),
        (["networks/check_lora_weights.py", "missing.safetensors"], ["SD-PATH-001"]),
        (["tools/config_from_run.py"], ["SD-OPT-007", "SD-OPT-007"]),
    ],
)
def test_a_command_that_is_refused_ends_with_the_codes(argv: list[str], codes: list[str], tmp_path: Path) -> None:
    script, *rest = argv
    run = subprocess.run([sys.executable, ROOT / script, *rest], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == EXIT_FAULT and len(lines) == len(codes), run.stderr
    assert [line.rsplit(" ", 1)[1] for line in lines] == [f"[{code}]" for code in codes]
