"""The tools around training and their options; each tool is a row of TOOLS, its options stand in a file of their own group."""

from __future__ import annotations

from library.options.declare import Tool
from library.options.preparation import PREPARATION_TOOLS

TOOLS: tuple[type[Tool], ...] = (*PREPARATION_TOOLS,)
