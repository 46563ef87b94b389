"""Options of a sample prompt: `--w 512` after it in a line, `width = 512` in a table; read like in sd-scripts, or reported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from library.errors import Problem, coded
from library.options.groups.sampling import SAMPLERS
from library.options.suggest import closest
from library.words import quoted

SMALLEST, LARGEST = 64, 1 << 14  # pixels per side
MAX_STEPS = 999  # the samplers' timesteps start at 1, and the model has 1000
MAX_GUIDANCE = 1000
MAX_SEED = 2**64 - 1
MAX_STRENGTH = 1000  # of a network, positive or negative

Value = str | int | float | tuple[float, ...] | None

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


@dataclass(frozen=True)
class Language:
    """Options that may follow a prompt: letter in a line -> field, key in a table -> field; `where` names the use of such a prompt."""

    letters: Mapping[str, str]
    keys: Mapping[str, str]
    where: str


SAMPLES = Language(_LETTERS, _KEYS, "samples of these models")
TRAINING_SAMPLES = Language(  # with the images that a run of an inpainting model fills in
    _LETTERS | {"i": "image", "m": "mask"}, _KEYS | {"image_path": "image", "mask_path": "mask"}, "samples of these models"
)
PICTURES = Language(
    _LETTERS | {"am": "strengths", "t": "denoising"},
    _KEYS | {"additional_network_multiplier": "strengths", "strength": "denoising"},
    "images of these models",
)
# Names of these options in other programs.
_LONG = {key: letter for key, name in PICTURES.keys.items() for letter, same in PICTURES.letters.items() if name == same} | {
    "image": "i", "mask": "m", "negative": "n", "neg": "n", "steps": "s", "cfg": "l", "cfg_scale": "l", "guidance": "l", "sampler": "ss",
}  # fmt: skip
# Options of sd-scripts without effect on samples of SD 1 and 2.
_ELSEWHERE = {
    "g": "the guidance of Flux", "am": "strengths of other networks", "cn": "an image for ControlNet", "ctr": "Lumina's",
    "rcfg": "Lumina's", "fs": "the flow shift of other models", "f": "frames of a video", "i": "an image of other models",
}  # fmt: skip
_KEYS_ELSEWHERE = frozenset(
    "guidance_scale additional_network_multiplier controlnet_image cfg_trunc_ratio renorm_cfg flow_shift frame_count image enum".split()
)
_OPTION = re.compile(r"(?:^|(?<=\s))--([A-Za-z][^\s=]*)")
_GLUED = re.compile(r"(n|w|h|d|l|ss|s)(-?\d[\d.]*)", re.IGNORECASE)
_DASHED = re.compile(r"(?:^|(?<=\s))([-‐‑‒–—―−]{1,3})([A-Za-z_]+)(?=[\s=\d]|$)")
_FRACTIONS = ("guidance", "denoising")
_FILES = ("image", "mask")
_TEXTS = ("negative", "sampler", "strengths", *_FILES)
_NUMBER = {int: re.compile(r"[+-]?\d+"), float: re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")}


@dataclass
class Entry:
    """A prompt at `place`: its fields, errors, and warnings about values read differently than they look."""

    place: str
    values: dict[str, Value] = field(default_factory=dict)
    faults: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def put(self, name: str, value: object, written: str) -> None:
        """Set a field's value; `written` is the text in the file."""
        settled, fault, remark = checked(name, value)
        if fault:
            self.faults.append(coded("CFG-013", f"{self.place}: {written}: {fault}"))
        if remark:
            self.warnings.append(f"{self.place}: {written}: {remark}")
        self.values[name] = settled

    def is_empty(self) -> bool:
        """Whether there is nothing to generate."""
        return not self.faults and all(value in ("", None) for value in self.values.values())


def read_line(place: str, line: str, language: Language = SAMPLES) -> Entry:
    """A prompt followed by its options."""
    options = list(_OPTION.finditer(line))
    entry = Entry(place, {"prompt": (line[: options[0].start()] if options else line).strip()})
    entry.warnings += _dashes(place, line, "--")
    ends = [following.start() for following in options[1:]] + [len(line)]
    for option, end in zip(options, ends, strict=False):
        word, text = option.group(1), line[option.end() : end].lstrip(" \t=").strip()
        name = language.letters.get(word.lower())
        if name is None:
            entry.warnings.append(f"{place}: {_no_option(word, language)}")
            continue
        if name in entry.values:
            entry.warnings.append(f"{place}: --{word} is given twice; the last one counts")
        number = _NUMBER[float if name in _FRACTIONS else int].match(text)
        if number is None or name in _TEXTS:
            entry.put(name, text, f"--{word} {quoted(text)}")
            continue
        entry.put(name, number.group(), f"--{word} {quoted(number.group())}")
        if rest := text[number.end() :].strip(" \t,;"):
            entry.warnings.append(f"{place}: --{word} {number.group()}: {rest!r} after it is ignored; the prompt ends at its first option")
    return entry


def read_table(place: str, table: Mapping[str, object], language: Language = SAMPLES) -> Entry:
    """A prompt whose options are keys; null in JSON means that the option is missing."""
    entry = Entry(place)
    for key, value in table.items():
        if key in _KEYS_ELSEWHERE and key not in language.keys:
            entry.warnings.append(f"{place}: {key} has no effect on {language.where}")
        elif key not in language.keys:
            near = closest(key, language.keys)
            entry.faults.append(
                coded(
                    "CFG-013",
                    f"{place}: {key} is unknown{f' (did you mean {near}?)' if near else ''}; known are {', '.join(language.keys)}",
                )
            )
        elif value is not None:
            entry.put(language.keys[key], value, f"{key} = {quoted(value)}")
            if isinstance(value, str):
                entry.warnings += _dashes(place, value)
    if table and "prompt" not in table:
        entry.faults.append(coded("CFG-013", f"{place}: has no prompt"))
    entry.values.setdefault("prompt", "")
    return entry


def checked(name: str, value: object) -> tuple[Value, str, str]:
    """The value in its field's type, the error ("" for none), and a remark if another value is used."""
    if name in ("prompt", "negative"):
        return (value, "", "") if isinstance(value, str) else (None, "must be text", "")
    if name == "sampler":
        known = isinstance(value, str) and value in SAMPLERS
        return str(value), "" if known else f"must be one of {' '.join(SAMPLERS)}", ""
    if name == "strengths":
        strengths = _strengths(value)
        return strengths, "" if strengths else "must be numbers separated by commas, one for each network, such as 0.8,0.5", ""
    if name in _FILES:
        named = isinstance(value, str) and bool(value.strip())
        return str(value), "" if named else "must name an image file", ""
    number = _number(value, whole=name not in _FRACTIONS)
    if name == "denoising":
        return number, "" if number is not None and 0 <= number <= 1 else "must be a number from 0 to 1, such as 0.6", ""
    if name == "guidance":
        good = number is not None and 0 <= number <= MAX_GUIDANCE
        return number, "" if good else f"must be a number from 0 to {MAX_GUIDANCE}, such as 7.5", ""
    lowest, highest = {"steps": (1, MAX_STEPS), "seed": (0, MAX_SEED)}.get(name, (SMALLEST, LARGEST))
    if number is None or (number > highest and name != "steps"):
        return number, f"must be a whole number from {lowest} to {highest}", ""
    if name == "seed" and number < 0:
        return None, "", "" if number == -1 else "is below 0, so the seed is chosen at random"
    taken = max(lowest, min(highest, number))
    return taken, "", "" if taken == number else f"{taken} is used, since it must be from {lowest} to {highest}"


def _strengths(value: object) -> tuple[float, ...]:
    """The strengths in a comma-separated text, a list or a single number; empty if any is invalid."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    numbers = [_number(part, whole=False) for part in parts]
    return tuple(float(one) for one in numbers if one is not None and abs(one) <= MAX_STRENGTH) if None not in numbers else ()


def _number(value: object, whole: bool) -> int | float | None:
    """The number, also from a text, or None; an integer may be written as 512.0."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
        if not whole:
            return number
        return int(value) if isinstance(value, str | int) else int(number) if number.is_integer() else None
    except (OverflowError, ValueError):
        return None


def _no_option(word: str, language: Language) -> str:
    """The warning for a word that starts with -- but is not an option."""
    known = " ".join(f"--{letter}" for letter in language.letters)
    if word.lower() in _ELSEWHERE:
        return f"--{word} has no effect on {language.where} ({_ELSEWHERE[word.lower()]}); known are {known}"
    left_out = f"--{word} is unknown and ignored, with everything after it; "
    if glued := _GLUED.fullmatch(word):
        return left_out + f"write --{glued.group(1)} {glued.group(2)}"
    long = closest(word, _LONG) if len(word) > 2 else None
    meant = _LONG[long] if long else ""
    return left_out + (f"did you mean --{meant}?" if meant in language.letters else f"known are {known}")


def _dashes(place: str, text: str, right: str = "") -> Iterator[str]:
    """Warnings about prompt text that looks like an option but does not start with two hyphens (`right`)."""
    for dashes, word in _DASHED.findall(text):
        letter = word.lower() if word.lower() in _LETTERS or word.lower() in _ELSEWHERE else _LONG.get(word.lower())
        if letter is None or dashes == right:
            continue
        shown = f"{place}: {dashes}{word} is part of the prompt; "
        if dashes == "--":
            yield shown + "options are keys here, such as width = 512"
        elif set(dashes) == {"-"}:
            yield shown + f"an option has two hyphens: --{letter}"
        else:
            yield shown + f"an option has two hyphens, which a word processor has turned into a dash: --{letter}"
