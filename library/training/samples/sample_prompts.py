"""Reads the file of --sample_prompts: what to draw during training, from .txt, .toml or .json, with every fault told by its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from library.errors import UserError
from library.options.groups.sampling import SAMPLERS
from library.options.suggest import closest

STEP = 8  # pixels that one latent stands for
SMALLEST = 64  # pixels a side
MAX_STEPS = 1000


@dataclass(frozen=True)
class SamplePrompt:
    """One image to draw; sides in pixels, `seed` None for another image each time, `sampler` None for --sample_sampler's."""

    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    guidance: float = 7.5
    seed: int | None = None
    sampler: str | None = None


# letter in .txt -> field; key in .toml and .json -> field
_LETTERS = {"n": "negative", "w": "width", "h": "height", "d": "seed", "l": "guidance", "s": "steps", "ss": "sampler"}
_KEYS = {
    "prompt": "prompt",
    "negative_prompt": "negative",
    "width": "width",
    "height": "height",
    "sample_steps": "steps",
    "scale": "guidance",
    "seed": "seed",
    "sample_sampler": "sampler",
}
_OPTION = re.compile(r"(?:^|(?<=\s))--([A-Za-z]+)(?=\s|=|$)")


def read_prompts(path: Path) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
    """The prompts of a file, and lines that tell what was changed in them. Raises UserError with all faults and their places.

    .txt: a prompt a line, `#` begins a remark line, `--n negative --w width --h height --d seed --l scale --s steps`.
    .toml: `[prompt]` with what all share and `[[prompt.subset]]` for each. .json: a list of objects with the same keys, or of lines.
    """
    path = Path(path)
    readers = {".txt": _from_text, ".toml": _from_toml, ".json": _from_json}
    if path.suffix.lower() not in readers:
        raise UserError(f"--sample_prompts {path}: must end in .txt, .toml or .json")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"--sample_prompts {path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"--sample_prompts {path}: cannot be read: {error.strerror or error}") from error
    if "\0" in text:
        raise UserError(f"--sample_prompts {path}: is not UTF-8 but UTF-16; save it as UTF-8")
    entries = readers[path.suffix.lower()](path, text)
    problems = [problem for _, values, faults in entries for problem in faults]
    if problems:
        raise UserError(*problems)
    if not entries:
        raise UserError(f"--sample_prompts {path}: has no prompt; write one a line (lines that begin with # are remarks)")
    rounded = [_rounded(place, SamplePrompt(**values)) for place, values, _ in entries]
    return tuple(prompt for prompt, _ in rounded), tuple(note for _, note in rounded if note)


_Entry = tuple[str, dict[str, Any], list[str]]  # place, fields, faults


def _from_text(path: Path, text: str) -> list[_Entry]:
    lines = [(f"{path} line {number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [_line(place, line) for place, line in lines if line and not line.startswith("#")]


def _line(place: str, line: str) -> _Entry:
    """One line of a .txt file."""
    found = list(_OPTION.finditer(line))
    values: dict[str, Any] = {"prompt": (line[: found[0].start()] if found else line).strip()}
    faults = []
    ends = [following.start() for following in found[1:]] + [len(line)]
    for option, end in zip(found, ends, strict=False):
        letter = option.group(1)
        value = line[option.end() : end].lstrip(" \t=").strip()
        name = _LETTERS.get(letter.lower())
        if name is None:
            faults.append(f"{place}: --{letter} is unknown; known are {' '.join(f'--{known}' for known in _LETTERS)}")
        elif name in values:
            faults.append(f"{place}: --{letter} is given twice; leave one out")
        else:
            values[name], fault = _checked(name, value)
            faults += [f"{place}: --{letter} {value!r}: {fault}"] if fault else []
    return place, values, faults


def _from_toml(path: Path, text: str) -> list[_Entry]:
    import toml

    try:
        data = toml.loads(text)
    except (toml.TomlDecodeError, IndexError, ValueError) as error:
        number = getattr(error, "lineno", None)
        where = f" line {number}" if number else ""
        raise UserError(f"--sample_prompts {path}{where}: is not valid TOML: {getattr(error, 'msg', error)}") from error
    shared = data.get("prompt")
    if not isinstance(shared, dict) or set(data) != {"prompt"}:
        raise UserError(f"--sample_prompts {path}: wants one table [prompt] with a [[prompt.subset]] for each prompt and nothing beside it")
    shared = dict(shared)
    subsets = shared.pop("subset", [{}] if shared else [])
    if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets):
        raise UserError(f"--sample_prompts {path}: prompt.subset must be written as [[prompt.subset]], once for each prompt")
    return [_table(f"{path} prompt.subset {number}", {**shared, **subset}) for number, subset in enumerate(subsets, start=1)]


def _from_json(path: Path, text: str) -> list[_Entry]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--sample_prompts {path} line {error.lineno}: is not valid JSON: {error.msg}") from error
    if not isinstance(data, list):
        raise UserError(f'--sample_prompts {path}: must be a list of prompts: [{{"prompt": "…"}}, …]')
    return [_item(f"{path} item {number}", item) for number, item in enumerate(data, start=1)]


def _item(place: str, item: Any) -> _Entry:
    if isinstance(item, str):
        return _line(place, item.strip())
    return _table(place, item) if isinstance(item, dict) else (place, {}, [f"{place}: must be a prompt or an object with the key prompt"])


def _table(place: str, table: Mapping[str, Any]) -> _Entry:
    values: dict[str, Any] = {}
    faults = []
    for key, value in table.items():
        if key not in _KEYS:
            near = closest(key, _KEYS)
            faults.append(f"{place}: {key} is unknown{f' (did you mean {near}?)' if near else ''}; known are {', '.join(_KEYS)}")
            continue
        values[_KEYS[key]], fault = _checked(_KEYS[key], value)
        faults += [f"{place}: {key} = {value!r}: {fault}"] if fault else []
    if "prompt" not in table:
        faults.append(f"{place}: has no prompt")
    return place, values, faults


def _checked(name: str, value: Any) -> tuple[Any, str]:
    """The value in its field's type, and what is wrong with it ("" for nothing)."""
    if name in ("prompt", "negative"):
        return (value, "") if isinstance(value, str) else (value, "must be text")
    if name == "sampler":
        return value, "" if value in SAMPLERS else f"must be one of {' '.join(SAMPLERS)}"
    number = _number(value, float if name == "guidance" else int)
    if name == "guidance":
        return number, "" if number is not None and math.isfinite(number) and number >= 0 else "must be a number from 0 on, such as 7.5"
    lowest, highest = {"width": (SMALLEST, 1 << 14), "height": (SMALLEST, 1 << 14), "steps": (1, MAX_STEPS), "seed": (0, 2**64 - 1)}[name]
    return number, "" if number is not None and lowest <= number <= highest else f"must be a whole number from {lowest} to {highest}"


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or (kind is int and isinstance(value, float)):
        return None
    try:
        return kind(value)
    except ValueError:
        return None


def _rounded(place: str, prompt: SamplePrompt) -> tuple[SamplePrompt, str]:
    """The prompt with sides that are multiples of 8, and a line that says so where they were not."""
    width, height = prompt.width // STEP * STEP, prompt.height // STEP * STEP
    if (width, height) == (prompt.width, prompt.height):
        return prompt, ""
    note = f"{place}: {prompt.width}x{prompt.height} is drawn as {width}x{height}; sides are multiples of {STEP}"
    return replace(prompt, width=width, height=height), note


assert {*_LETTERS.values(), "prompt"} == set(_KEYS.values()) == {field.name for field in fields(SamplePrompt)}
