"""Reads prompt files (--sample_prompts, --from_file): .txt, .toml or .json; every error names its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from library.errors import Problem, UserError, coded
from library.options.bounds import PIXELS_OF_A_LATENT
from library.parsing.bounds import TooMuch
from library.parsing.json_text import JsonFault, parse_json
from library.parsing.signs import is_text, not_latin
from library.parsing.toml_text import TomlFault, lacks_quotes, parse_toml
from library.paths.faults import file_fault
from library.paths.opening import read_text
from library.pictures.prompt_options import PICTURES, SAMPLES, TRAINING_SAMPLES, Entry, Language, read_line, read_table
from library.words import counted, cut


@dataclass(frozen=True)
class SamplePrompt:
    """One image to generate; sides in pixels. `seed` None: random; `sampler` None: that of --sample_sampler.

    `strengths` belong to the networks, in their order; `denoising` is the strength of img2img. Empty and None mean the values of the
    command line. `image` and `mask` are files for a sample of an inpainting model.
    """

    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    guidance: float = 7.5
    seed: int | None = None
    sampler: str | None = None
    strengths: tuple[float, ...] = ()
    denoising: float | None = None
    image: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts for the option that names their file; `defaults` replace what a prompt does not specify."""

    option: str = "--sample_prompts"
    language: Language = SAMPLES
    defaults: SamplePrompt = SamplePrompt("")

    def read(self, path: Path) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
        """The prompts of a file, and warnings about parts read differently than they look.

        .txt: one prompt per line, `#` starts a comment line, `--n negative --w width --h height --d seed --l scale --s steps`.
        .toml: `[prompt]` with shared values and `[[prompt.subset]]` for each prompt.
        .json: a list of objects with the same keys, or of lines.
        Raises UserError with all errors and their places.
        """
        path = Path(path)
        readers = {".txt": self._from_text, ".toml": self._from_toml, ".json": self._from_json}
        where = f"{self.option} {path}"
        if wrong := file_fault(path):
            raise UserError(wrong.reworded(f"{self.option}: {wrong}"))
        if path.suffix.lower() not in readers:
            raise UserError(coded("CFG-005", f"{where}: must end in .txt, .toml or .json"))
        entries = readers[path.suffix.lower()](path, _text_of(path, where))
        if not self._drawn(entries):
            raise UserError(coded("CFG-013", f"{where}: has no prompt; write one per line (lines that start with # are comments)"))
        return self._prompts(entries)

    def read_one(self, text: str) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
        """Like `read`, for a single line: the value of the option itself."""
        return self._prompts([read_line(self.option, text.strip(), self.language)])

    def _drawn(self, entries: list[Entry]) -> list[Entry]:
        problems = [problem for entry in entries for problem in (*entry.faults, *_not_text(entry))]
        if problems:
            raise UserError(*problems)
        return [entry for entry in entries if not entry.is_empty()]

    def _prompts(self, entries: list[Entry]) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
        drawn = self._drawn(entries)
        notes = [warning for entry in entries for warning in (*entry.warnings, *_without_prompt(entry))]
        rounded = [
            _rounded(entry.place, replace(self.defaults, **entry.values))  # type: ignore[arg-type]  # `checked` guarantees the types
            for entry in drawn
        ]
        notes += [note for _, note in rounded if note]
        return tuple(prompt for prompt, _ in rounded), (*notes, *_in_other_scripts(drawn))

    def _from_text(self, path: Path, text: str) -> list[Entry]:
        lines = [(f"{path} line {number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
        return [read_line(place, line, self.language) for place, line in lines if line and not line.startswith("#")]

    def _from_toml(self, path: Path, text: str) -> list[Entry]:
        where = f"{self.option} {path}"
        try:
            data = parse_toml(text)
        except TooMuch as fault:
            raise UserError(coded("CFG-012", f"{where}: {fault}")) from fault
        except TomlFault as fault:
            line = f" line {fault.line}" if fault.line else ""
            lines = text.splitlines()
            bare = fault.line is not None and fault.line <= len(lines) and lacks_quotes(lines[fault.line - 1])
            reason = 'text needs quotes: prompt = "a photo of a dog"' if bare else fault.reason
            raise UserError(coded("CFG-002", f"{where}{line}: is not valid TOML: {reason}")) from fault
        shared = data.get("prompt")
        if not isinstance(shared, dict) or set(data) != {"prompt"}:
            what = "needs one table [prompt] with a [[prompt.subset]] for each prompt and nothing else"
            raise UserError(coded("CFG-003", f"{where}: {what}"))
        shared = dict(shared)
        subsets = shared.pop("subset", [{}] if shared else [])
        if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets):
            raise UserError(coded("CFG-003", f"{where}: prompt.subset must be written as [[prompt.subset]], once for each prompt"))
        tables = [(f"{path} prompt.subset {number}", {**shared, **subset}) for number, subset in enumerate(subsets, start=1)]
        return [read_table(place, table, self.language) for place, table in tables]

    def _from_json(self, path: Path, text: str) -> list[Entry]:
        where = f"{self.option} {path}"
        try:
            data = parse_json(text)
        except TooMuch as fault:
            raise UserError(coded("CFG-012", f"{where}: {fault}")) from fault
        except JsonFault as error:
            raise UserError(coded("CFG-002", f"{where} line {error.lineno}: is not valid JSON: {error.msg}")) from error
        if not isinstance(data, list):
            raise UserError(coded("CFG-003", f'{where}: must be a list of prompts: [{{"prompt": "…"}}, …]'))
        return [self._item(f"{path} item {number}", item) for number, item in enumerate(data, start=1)]

    def _item(self, place: str, item: object) -> Entry:
        if isinstance(item, str):
            return read_line(place, item.strip(), self.language)
        if item is None or isinstance(item, dict):
            return read_table(place, item or {}, self.language)
        return Entry(place, faults=[coded("CFG-013", f"{place}: must be a prompt or an object with the key prompt")])


def read_prompts(path: Path) -> tuple[tuple[SamplePrompt, ...], tuple[str, ...]]:
    """The prompts of a run's samples; see `PromptReader.read`."""
    return PromptReader(language=TRAINING_SAMPLES).read(path)


def _text_of(path: Path, where: str) -> str:
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(coded("CFG-001", f"{where}: is not UTF-8 (byte {error.start}); save it as UTF-8")) from error
    except OSError as error:
        raise UserError(coded("CFG-004", f"{where}: cannot be read: {error.strerror or error}")) from error
    if "\0" in text:
        raise UserError(coded("CFG-001", f"{where}: is not UTF-8 but UTF-16; save it as UTF-8"))
    return text


def _not_text(entry: Entry) -> Iterator[Problem]:
    """Half of a surrogate pair: a byte that this system's encoding does not know, or an incomplete escape of JSON."""
    for name in ("prompt", "negative"):
        if not is_text(text := str(entry.values.get(name, ""))):
            yield coded("CFG-013", f"{entry.place}: {cut(text, 40)!a} has a character that is not valid text; type it again, or remove it")


def _without_prompt(entry: Entry) -> Iterator[str]:
    if entry.is_empty():
        yield f"{entry.place}: is empty and skipped"
    elif not dict(entry.values).get("prompt"):
        yield f"{entry.place}: has no words, so its image is generated without a prompt"


def _in_other_scripts(entries: list[Entry]) -> Iterator[str]:
    """One warning about all prompts that are not in Latin letters."""
    others = [
        (entry.place, text) for entry in entries for name in ("prompt", "negative") if not_latin(text := str(entry.values.get(name, "")))
    ]
    if others:
        place, text = others[0]
        more = f" and {counted(len(others) - 1, 'other')}" if len(others) > 1 else ""
        yield (
            f"{place}{more}: “{cut(text, 40)}” is not in Latin letters; the text encoder splits other scripts into pieces of letters that "
            "it hardly knows; write prompts in English"
        )


def _rounded(place: str, prompt: SamplePrompt) -> tuple[SamplePrompt, str]:
    """The prompt with both sides rounded to multiples of 8, and a warning if that changed them."""
    width, height = prompt.width // PIXELS_OF_A_LATENT * PIXELS_OF_A_LATENT, prompt.height // PIXELS_OF_A_LATENT * PIXELS_OF_A_LATENT
    if (width, height) == (prompt.width, prompt.height):
        return prompt, ""
    note = f"{place}: {prompt.width}x{prompt.height} becomes {width}x{height}; sides must be multiples of {PIXELS_OF_A_LATENT}"
    return replace(prompt, width=width, height=height), note


assert all({*language.letters.values(), "prompt"} == set(language.keys.values()) for language in (SAMPLES, TRAINING_SAMPLES, PICTURES))
assert {*TRAINING_SAMPLES.keys.values(), *PICTURES.keys.values()} == {field.name for field in fields(SamplePrompt)}
