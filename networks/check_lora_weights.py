"""Check a LoRA file: contents, damage, programs that load it: `python networks/check_lora_weights.py a.safetensors`"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library is one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.console import run_script
from library.errors import UserError, coded
from library.options.reading.parse import parse
from library.options.rules.tool_check import check_paths
from library.options.tool_groups.lora import CheckLora


def main(argv: Sequence[str]) -> None:
    """Run with the command line `argv`, without the script's name. Raises UserError for a file with numbers that are not finite."""
    options = parse(CheckLora, argv)
    check_paths(options)

    from library.console import progress
    from library.surgery.health import NON_FINITE, findings, modules_of
    from library.surgery.health_page import page, tensor_lines
    from library.surgery.network_file import open_network

    network = open_network(options.check.file, "file")
    if options.check.show_all_keys:
        print(*tensor_lines(network), "", sep="\n")
    modules = list(progress(modules_of(network), total=len(network.modules), label="checking", unit="module"))
    problems = findings(network, modules)
    print(page(network, modules, problems, options.check.verbose))
    if any(module.fault == NON_FINITE for module in modules):
        raise UserError(coded("FILE-009", f"{options.check.file}: {problems[0]}"))


if __name__ == "__main__":
    sys.exit(run_script(main))
