"""Outputs that cannot be written end nothing, and say so where something still works."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from library import console
from library.errors import UserError, coded
from library.telling.signs import plain, plain_line
from library.telling.streams import LastingStream
from tests.messages import message, refusal

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="a shell and /dev/full")


class Full(io.StringIO):
    """Takes nothing while it is `full`."""

    full = True
    fault = OSError(errno.ENOSPC, "No space left on device")

    def write(self, text: str) -> int:
        if self.full:
            raise self.fault
        return super().write(text)


def test_a_full_disk_is_told_once_and_lines_come_again_when_there_is_room() -> None:
    under, reported = Full(), []
    stream = LastingStream(under, "standard error")
    stream.on_fault = reported.append
    assert stream.write("one\n") == 4 and stream.write("two\n") == 4
    assert len(reported) == 1 and not stream.gone
    message(reported, "standard error", "No space left on device")
    under.full = False
    stream.write("three\n")
    stream.write("four\n")
    first, *rest = under.getvalue().split("\n", 2)
    assert first == "three"
    message(rest[1], "warning:", "standard error", "No space left on device")
    assert under.getvalue().count("warning") == 1 and under.getvalue().endswith("four\n")


@pytest.mark.parametrize("fault", [BrokenPipeError(errno.EPIPE, "Broken pipe"), ValueError("I/O operation on closed file")])
def test_what_nobody_will_read_again_is_left_alone(fault: Exception) -> None:
    under = Full()
    under.fault = fault
    stream = LastingStream(under, "standard output")
    stream.write("one\n")
    assert stream.gone
    under.full = False
    stream.write("two\n")
    stream.flush()
    assert under.getvalue() == ""


def test_signs_that_a_terminal_obeys_are_spelled_out() -> None:
    evil = "a\x1b[2J\x07\x9b1m\u202egnp\x7f\u2066\x00"
    assert plain(evil) == r"a\x1b[2J\x07\u009b1m\u202egnp\u007f\u2066\x00"
    assert plain("two\nlines\tand 犬 é 🐈 \u200d") == "two\nlines\tand 犬 é 🐈 \u200d"
    assert plain_line("a\nb\rc\t") == r"a\nb\rc\t" and plain("a\rb", "\r") == "a\rb"


def test_nothing_that_is_printed_told_or_refused_reaches_the_terminal_as_a_command(capsys: pytest.CaptureFixture) -> None:
    evil = "cat\x1b]0;owned\x07\x9b\u202e.png"

    def main(argv: list[str]) -> None:
        print(f"tensor {evil}")
        console.log.warning("%s: is damaged", evil)
        with console.progress([1], label=evil) as bar:
            next(iter(bar))
            console.log.info(f"above the bar: {evil}")
        raise UserError(coded("PATH-001", f"--vae {evil}\nerror: another line: is no file"))

    assert console.run_script(main, []) == 2
    output = capsys.readouterr()
    for text in output:
        assert not set(text) & set("\x1b\x07\x9b\u202e") and r"cat\x1b]0;owned\x07\u009b\u202e.png" in text
    assert output.err.count("\nerror: ") == 1 and r".png\nerror: another line" in output.err


def test_a_bar_below_another_still_finds_its_line(capsys: pytest.CaptureFixture) -> None:
    def main(argv: list[str]) -> None:
        with console.progress([1, 2], label="outer") as outer:
            for _ in outer:
                with console.progress([1, 2], label="inner") as inner:
                    list(inner)

    assert console.run_script(main, []) == 0
    output = capsys.readouterr().err
    assert "\x1b[A" in output and r"\x1b" not in output
    console.setup()
    print("\x1b[A")
    assert capsys.readouterr().out == "\\x1b[A\n"


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from library import console
from library.errors import UserError, coded
def main(argv):
    for number in range(3000):
        print("a line of the result", number)
    console.log.warning("a warning")
    with console.progress(range(3), label="bar") as bar:
        list(bar)
{more}
sys.exit(console.run_script(main))
"""


def run(shell: str, tmp_path: Path, more: str = "") -> tuple[int, str, str]:
    """Exit code and outputs of a small script under `shell`, in which $RUN is the command."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT), more=more), encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"],
        env={**os.environ, "RUN": f"{sys.executable} {script}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@posix
@pytest.mark.parametrize(
    ("shell", "code", "out", "err"),
    [
        ("$RUN | head -n 1", 0, "a line of the result 0\n", "warning: a warning"),
        ("$RUN 2>&1 | head -n 1", 0, "a line of the result 0\n", ""),
        ("$RUN 2>/dev/full", 0, "a line of the result 2999\n", ""),
        ("$RUN >/dev/full", 1, "", "error: standard output"),
        ("$RUN >/dev/full 2>&1", 1, "", ""),
        ("$RUN 2>&-", 0, "a line of the result 2999\n", ""),
        ("$RUN >&-", 0, "", "warning: a warning"),
        ("$RUN <&- >&- 2>&-", 0, "", ""),
    ],
)
def test_a_tool_whose_outputs_fail(shell: str, code: int, out: str, err: str, tmp_path: Path) -> None:
    ended = run(shell, tmp_path)
    assert ended[0] == code and out in ended[1] and err in ended[2]
    assert "Traceback" not in ended[1] + ended[2] and "Exception ignored" not in ended[2]


@posix
def test_a_result_that_is_lost_is_told_with_its_reason_and_code(tmp_path: Path) -> None:
    code, _, err = run("$RUN >/dev/full", tmp_path)
    refusal(err, "TOOL-011", "standard output", os.strerror(errno.ENOSPC), "free some space", "run this again")
    assert code == console.EXIT_PARTLY_DONE and err.splitlines()[-1].endswith("[SD-TOOL-011]")


def test_a_result_with_lines_missing_in_its_middle_is_not_taken_for_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    under = Full()
    monkeypatch.setattr(sys, "stdout", under)

    def main(argv: list[str]) -> None:
        print("one", flush=True)
        under.full = False  # somebody has made room
        print("two")

    assert console.run_script(main, []) == console.EXIT_PARTLY_DONE
    assert "two" in under.getvalue() and "one" not in under.getvalue()
    refusal(capsys.readouterr().err, "TOOL-011", "standard output", "run this again")


@posix
def test_what_only_tells_says_on_the_other_output_that_one_fails(tmp_path: Path) -> None:
    code, out, err = run("$RUN 2>/dev/full", tmp_path, "    console.log.warning('b')\nconsole_setup = console.setup\n"
                         "console.setup = lambda: (console_setup(), console.only_tells())")  # fmt: skip
    assert code == 0 and out.count("warning: standard error") == 1
    message(out, "standard error", "No space left on device", "lost")
    code, out, err = run("$RUN >/dev/full", tmp_path, "console_setup = console.setup\n"
                         "console.setup = lambda: (console_setup(), console.only_tells())")  # fmt: skip
    assert code == 0 and err.count("warning: standard output") == 1
    message(err, "standard output", "No space left on device")


@posix
def test_a_file_that_is_opened_later_never_gets_the_number_of_a_closed_output(tmp_path: Path) -> None:
    more = f"    import os\n    file = open({str(tmp_path / 'data')!r}, 'w')\n    assert file.fileno() > 2\n    os.write(2, b'x')"
    assert run("$RUN >&- 2>&-", tmp_path, more)[0] == 0
    assert (tmp_path / "data").read_bytes() == b""
