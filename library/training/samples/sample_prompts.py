"""Reads the file of --sample_prompts: what to draw during training, from .txt, .toml or .json, with every fault told by its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from library.errors import UserError, coded
from library.parsing.bounds import TooMuch
from library.parsing.json_text import JsonFault, parse_json
from library.parsing.toml_text import TomlFault, parse_toml
from library.paths.faults import file_fault
from library.paths.opening import read_text
from library.training.samples.prompt_options import KEYS, LETTERS, Entry, read_line, read_table

STEP = 8  # pixels that one latent stands for


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


def read_prompts(path: Path) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
    """The prompts of a file, and warnings of what is read otherwise than it may seem. Raises UserError with all faults and their places.

    .txt: a prompt a line, `#` begins a remark line, `--n negative --w width --h height --d seed --l scale --s steps`.
    .toml: `[prompt]` with what all share and `[[prompt.subset]]` for each. .json: a list of objects with the same keys, or of lines.
    """
    path = Path(path)
    readers = {".txt": _from_text, ".toml": _from_toml, ".json": _from_json}
    if wrong := file_fault(path):
        raise UserError(wrong.reworded(f"--sample_prompts: {wrong}"))
    if path.suffix.lower() not in readers:
        raise UserError(coded("CFG-005", f"--sample_prompts {path}: must end in .txt, .toml or .json"))
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(coded("CFG-001", f"--sample_prompts {path}: is not UTF-8 (byte {error.start}); save it as UTF-8")) from error
    except OSError as error:
        raise UserError(coded("CFG-004", f"--sample_prompts {path}: cannot be read: {error.strerror or error}")) from error
    if "\0" in text:
        raise UserError(coded("CFG-001", f"--sample_prompts {path}: is not UTF-8 but UTF-16; save it as UTF-8"))
    entries = readers[path.suffix.lower()](path, text)
    problems = [problem for entry in entries for problem in entry.faults]
    if problems:
        raise UserError(*problems)
    drawn = [entry for entry in entries if not entry.is_empty()]
    if not drawn:
        raise UserError(coded("CFG-013", f"--sample_prompts {path}: has no prompt; write one a line (lines that begin with # are remarks)"))
    notes = [warning for entry in entries for warning in (*entry.warnings, *_without_prompt(entry))]
    rounded = [_rounded(entry.place, SamplePrompt(**entry.values)) for entry in drawn]  # type: ignore[arg-type]  # `checked` has seen to it
    return tuple(prompt for prompt, _ in rounded), (*notes, *(note for _, note in rounded if note))


def _without_prompt(entry: Entry) -> Iterator[str]:
    if entry.is_empty():
        yield f"{entry.place}: is empty and left out"
    elif not entry.values.get("prompt"):
        yield f"{entry.place}: has no words, so it is drawn without a prompt"


def _from_text(path: Path, text: str) -> list[Entry]:
    lines = [(f"{path} line {number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [read_line(place, line) for place, line in lines if line and not line.startswith("#")]


def _from_toml(path: Path, text: str) -> list[Entry]:
    try:
        data = parse_toml(text)
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"--sample_prompts {path}: {fault}")) from fault
    except TomlFault as fault:
        where = f" line {fault.line}" if fault.line else ""
        raise UserError(coded("CFG-002", f"--sample_prompts {path}{where}: is not valid TOML: {fault.reason}")) from fault
    shared = data.get("prompt")
    if not isinstance(shared, dict) or set(data) != {"prompt"}:
        raise UserError(
            coded(
                "CFG-003",
                f"--sample_prompts {path}: wants one table [prompt] with a [[prompt.subset]] for each prompt and nothing beside it",
            )
        )
    shared = dict(shared)
    subsets = shared.pop("subset", [{}] if shared else [])
    if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets):
        raise UserError(
            coded("CFG-003", f"--sample_prompts {path}: prompt.subset must be written as [[prompt.subset]], once for each prompt")
        )
    return [read_table(f"{path} prompt.subset {number}", {**shared, **subset}) for number, subset in enumerate(subsets, start=1)]


def _from_json(path: Path, text: str) -> list[Entry]:
    try:
        data = parse_json(text)
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"--sample_prompts {path}: {fault}")) from fault
    except JsonFault as error:
        raise UserError(coded("CFG-002", f"--sample_prompts {path} line {error.lineno}: is not valid JSON: {error.msg}")) from error
    if not isinstance(data, list):
        raise UserError(coded("CFG-003", f'--sample_prompts {path}: must be a list of prompts: [{{"prompt": "…"}}, …]'))
    return [_item(f"{path} item {number}", item) for number, item in enumerate(data, start=1)]


def _item(place: str, item: object) -> Entry:
    if isinstance(item, str):
        return read_line(place, item.strip())
    if item is None or isinstance(item, dict):
        return read_table(place, item or {})
    return Entry(place, faults=[coded("CFG-013", f"{place}: must be a prompt or an object with the key prompt")])


def _rounded(place: str, prompt: SamplePrompt) -> tuple[SamplePrompt, str]:
    """The prompt with sides that are multiples of 8, and a line that says so where they were not."""
    width, height = prompt.width // STEP * STEP, prompt.height // STEP * STEP
    if (width, height) == (prompt.width, prompt.height):
        return prompt, ""
    note = f"{place}: {prompt.width}x{prompt.height} is drawn as {width}x{height}; sides are multiples of {STEP}"
    return replace(prompt, width=width, height=height), note


assert {*LETTERS.values(), "prompt"} == set(KEYS.values()) == {field.name for field in fields(SamplePrompt)}
