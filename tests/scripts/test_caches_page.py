"""The commands of docs/caches.md are accepted as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from library.options.reading.parse import parse
from library.options.tool_groups.table import TOOLS

PAGE = Path(__file__).parents[2] / "docs" / "caches.md"


def test_the_commands_of_the_page_are_accepted() -> None:
    tools = {tool.name: tool for tool in TOOLS}
    found = [shlex.split(line) for line in re.findall(r"^(?:python|accelerate launch) .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]
    named = [line[next(place for place, word in enumerate(line) if word.endswith(".py")) :] for line in found]
    assert {line[0] for line in named} == {"tools/cache_latents.py", "finetune/prepare_buckets_latents.py"} and len(named) == 3
    for line in named:
        parse(tools[line[0]], line[1:])
