"""The tools around training: each tool is a row of TOOLS; its options are in the file of their group."""

from __future__ import annotations

from library.options.declare import Tool
from library.options.tool_groups.doctor import DOCTOR_TOOLS
from library.options.tool_groups.formats import FORMAT_TOOLS
from library.options.tool_groups.latents import LATENT_TOOLS
from library.options.tool_groups.lora import LORA_TOOLS
from library.options.tool_groups.pictures import PICTURE_TOOLS
from library.options.tool_groups.preparation import PREPARATION_TOOLS

TOOLS: tuple[type[Tool], ...] = (*PREPARATION_TOOLS, *LATENT_TOOLS, *LORA_TOOLS, *FORMAT_TOOLS, *DOCTOR_TOOLS, *PICTURE_TOOLS)
