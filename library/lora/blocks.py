"""The 25 blocks of a Stable Diffusion v1/v2 U-Net as users count them, and the weights per block.

The count is that of the original U-Net's lists (`input_blocks`, `middle_block`, `output_blocks`), which users know as
BASE/IN/MID/OUT; ours are Diffusers' names:

| index | users' name | Diffusers module                                                     |
|-------|-------------|----------------------------------------------------------------------|
| 0     | IN00        | `conv_in` (never a LoRA module: the index is only for the count)     |
| 1–2   | IN01, IN02  | `down_blocks.0.{resnets,attentions}.{0,1}`                           |
| 3     | IN03        | `down_blocks.0.downsamplers.0`                                       |
| 4–5   | IN04, IN05  | `down_blocks.1.{resnets,attentions}.{0,1}`                           |
| 6     | IN06        | `down_blocks.1.downsamplers.0`                                       |
| 7–8   | IN07, IN08  | `down_blocks.2.{resnets,attentions}.{0,1}`                           |
| 9     | IN09        | `down_blocks.2.downsamplers.0`                                       |
| 10–11 | IN10, IN11  | `down_blocks.3.resnets.{0,1}`                                        |
| 12    | MID         | `mid_block`                                                          |
| 13–15 | OUT00–OUT02 | `up_blocks.0.resnets.{0,1,2}`; `upsamplers.0` belongs to OUT02       |
| 16–18 | OUT03–OUT05 | `up_blocks.1.{resnets,attentions}.{0,1,2}`; `upsamplers.0` to OUT05  |
| 19–21 | OUT06–OUT08 | `up_blocks.2.{resnets,attentions}.{0,1,2}`; `upsamplers.0` to OUT08  |
| 22–24 | OUT09–OUT11 | `up_blocks.3.{resnets,attentions}.{0,1,2}`                           |
"""

from __future__ import annotations

import math
import re

SIDE = 12  # blocks of the down side, and of the up side
MIDDLE = SIDE
BLOCKS = SIDE + 1 + SIDE

_PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(?:\.|$)")
_PRESET = re.compile(r"\s*([A-Za-z_]+)\s*(?:\+(.*))?", re.DOTALL)


def block_index(path: str) -> int:
    """Return the block, 0 … 24, of the U-Net module at the dotted Diffusers `path` (`down_blocks.1.attentions.0.proj_in` → 4).

    Raises ValueError for a module outside the blocks (`time_embedding.linear_1`).
    """
    if path.startswith("mid_block."):
        return MIDDLE
    match = _PLACE.match(path)
    if not match:
        raise ValueError(f"{path} is in none of the U-Net's {BLOCKS} blocks")
    side, block, kind, layer = match[1], int(match[2]), match[3], int(match[4])
    within = 3 * block + (2 if kind.endswith("samplers") else layer)
    return 1 + within if side == "down" else MIDDLE + 1 + within


def block_label(index: int) -> str:
    """Return the users' name of the block: IN00 … IN11, MID, OUT00 … OUT11."""
    if index == MIDDLE:
        return "MID"
    return f"IN{index:02d}" if index < MIDDLE else f"OUT{index - MIDDLE - 1:02d}"


def _rising(bend: str) -> list[float]:
    steps = [step / (SIDE - 1) for step in range(SIDE)]
    return steps if bend == "linear" else [math.sin(math.pi / 2 * step) for step in steps]


PRESETS: dict[str, list[float]] = {
    "sine": _rising("sine"),  # 0 → 1
    "cosine": _rising("sine")[::-1],  # 1 → 0
    "linear": _rising("linear"),  # 0 → 1
    "reverse_linear": _rising("linear")[::-1],  # 1 → 0
    "zeros": [0.0] * SIDE,
}


def parse_numbers(text: str) -> list[float]:
    """Parse `"1, 2,0.5"` → [1.0, 2.0, 0.5]; the ValueError names the first entry that is not a finite number."""
    numbers = []
    for entry in text.split(","):
        try:
            numbers.append(float(entry))
        except ValueError:
            raise ValueError(f"{entry.strip()!r} is not a number") from None
        if not math.isfinite(numbers[-1]):
            raise ValueError(f"{entry.strip()!r} is not a finite number")
    return numbers


def parse_side_weights(text: str) -> list[float]:
    """Parse the learning rate weights of one side of the U-Net: numbers with commas, or a preset with an optional `+offset`.

    `"cosine+.25"` falls from 1.25 to 0.25 over the 12 blocks. A list keeps its length, which the caller checks. Raises ValueError for
    anything else.
    """
    preset = _PRESET.fullmatch(text)
    if preset and preset[1].lower() in PRESETS:
        offset = parse_numbers(preset[2]) if preset[2] is not None else [0.0]
        if len(offset) != 1:
            raise ValueError(f"{text!r}: one number is expected after the '+'")
        return [weight + offset[0] for weight in PRESETS[preset[1].lower()]]
    if preset and preset[1].lower() not in ("nan", "inf", "infinity"):
        raise ValueError(f"{preset[1]!r} is not a preset; presets are {', '.join(PRESETS)}")
    return parse_numbers(text)
