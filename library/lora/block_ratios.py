"""The strength of each block of a LoRA (`--lbws`): lists of weights in the format of block merging, by block name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from library.errors import UserError, coded
from library.lora.blocks import BLOCKS, block_index, block_label
from library.lora.layers import STABLE_DIFFUSION
from library.parsing.json_text import parse_json
from library.words import counted

BASE = "BASE"  # the text encoder
_ALL = (BASE, *map(block_label, range(BLOCKS)))
# Blocks that contain modules in a LoRA without 3×3 convolutions.
_WITH_ATTENTION = tuple(name for name in _ALL if name == BASE or name in "IN01 IN02 IN04 IN05 IN07 IN08 MID" or name in _ALL[-9:])
_LISTS = {len(names): names for names in (_WITH_ATTENTION, _ALL)}  # 17, 26
_OF_SDXL = (12, 20)
_PLACE = re.compile(r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_")

BlockRatios = Mapping[str, float]  # by BASE, IN00 … IN11, MID, OUT00 … OUT11


def read_block_ratios(texts: Sequence[str], files: int) -> list[BlockRatios]:
    """Return one mapping for each of `files`, from lists such as `[1,0,0.5,…]` or `1,0,0.5,…` of 17 or 26 numbers; empty without lists.

    Raises UserError for another number of lists, or of numbers.
    """
    if not texts:
        return []
    if len(texts) != files:
        raise UserError(coded("TOOL-005", f"--lbws: {counted(len(texts), 'list')} for {files} --models; give one for each"))
    return [_ratios(text) for text in texts]


def block_of(key: str) -> str | None:
    """Return the block of the module with this key; None if it is in no block."""
    if key.startswith(STABLE_DIFFUSION.text_encoders):
        return BASE
    name = key.removeprefix(STABLE_DIFFUSION.unet)
    if name.startswith("mid_block_"):
        return "MID"
    match = _PLACE.match(name)
    return block_label(block_index("{}_blocks.{}.{}.{}.".format(*match.groups()))) if match else None


def _ratios(text: str) -> BlockRatios:
    try:
        values = parse_json(text if text.lstrip().startswith("[") else f"[{text}]")
        numbers = [float(value) for value in values]
    except (ValueError, TypeError):
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UserError(
            coded("OPT-006", f"--lbws {text}: expected numbers separated by commas, such as [1,0.5,…]; the first is the text encoder's")
        )
    if len(numbers) not in _LISTS:
        hint = "; 12 and 20 are for SDXL" if len(numbers) in _OF_SDXL else ""
        raise UserError(
            coded(
                "OPT-006",
                f"--lbws {text}: has {counted(len(numbers), 'number')}; give 17 ({' '.join(_WITH_ATTENTION)}) or 26, all blocks{hint}",
            )
        )
    return dict(zip(_LISTS[len(numbers)], numbers, strict=True))
