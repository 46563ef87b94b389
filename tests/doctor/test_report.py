"""What a report strikes out."""

from __future__ import annotations

import pytest

from library.console import keep_secret
from library.doctor.findings import fault, note, ok
from library.doctor.report import Own, find_own, report, scrubbed

OWN = Own(("Joe Smith", "joe-pc"), {r"C:\Users\Joe Smith": "<home>", "/home/joe": "<home>", "/usr": "<python>"})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"read C:\Users\Joe Smith\dog.png", "read <home>"),
        ("read 'C:\\\\Users\\\\Joe Smith\\\\dog'", "read '<home>'"),
        (r"""Error loading "D:\a b\torch.dll" or""", "Error loading <path> or"),
        ("/home/joe/x and /home/joey/x", "<home> and <path>"),
        (r"\\server\share\dog is slow", "<path> is slow"),
        ("libx.so: /opt/a/libx.so: undefined", "libx.so: <path> undefined"),
        ("/usr/lib/x.py", "<python>/lib/x.py"),
        ("joe-pc, JOE SMITH_2, joes", "<name>, <name>_2, joes"),
        ("1/2 of 3 images/second; ok", "1/2 of 3 images/second; ok"),
    ],
)
def test_paths_and_names_are_struck_out(text: str, left: str) -> None:
    assert scrubbed(text, OWN) == left


def test_values_of_the_command_and_secrets_are_struck_out_of_findings() -> None:
    keep_secret("hf_thesecret")
    findings = [ok("--output_dir dog pictures: is writable", "dog pictures"), fault("dog and hf_thesecret", "see a/b", "dog", "a/b")]
    text = report([*findings, note("seed 1", "", "1")], "train_db.py --seed", OWN)
    assert "ok     --output_dir <value>: is writable" in text
    assert "error  <value> and (secret); see <value>" in text
    assert "note   seed 1" in text and "command: train_db.py --seed" in text


def test_own_names_are_those_of_user_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPUTERNAME", "desk.firm.example")
    monkeypatch.setenv("USERNAME", "joe")
    assert {"desk.firm.example", "desk", "joe"} <= set(find_own().names)
