"""Check the installation or a command: `python tools/doctor.py`, `python tools/doctor.py -- train_network.py --output_dir out …`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  (the rest cannot be imported there)
    sys.exit("error  Python %d.%d, but the suite needs 3.10 to 3.13; install Python 3.11" % sys.version_info[:2])  # noqa: UP031

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script, secret_free
from library.doctor.command import read_command, split_command
from library.doctor.examine import examine
from library.doctor.report import report
from library.options.reading.parse import parse
from library.options.tool_groups.doctor import Doctor

EXIT_UNSOUND = 1


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name."""
    own, words = split_command(argv)
    options = parse(Doctor, own)
    command, asked = read_command(words) if words is not None else (None, None)
    findings = []
    for finding in examine(command, asked):
        findings.append(finding)
        if not options.printed.report:
            print(secret_free(finding.line()), flush=True)
    faults = sum(finding.level == "error" for finding in findings)
    if options.printed.report:
        print(report(findings, command.without_values() if command is not None else None))
    elif faults:
        print(f"\n{faults} {'error' if faults == 1 else 'errors'}: fix the first one, then run this again")
    else:
        print("\nsound: no problem found")
    if faults:
        raise SystemExit(EXIT_UNSOUND)


if __name__ == "__main__":
    sys.exit(run_script(main))
