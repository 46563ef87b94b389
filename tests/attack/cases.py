"""Wrong inputs out of the declarations: every option of every script and tool, every dataset key, every file that is read.

Case `number` of `seed` is always the same, so that a failure can be looked at again.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from library.data.config.keys import DATASET, KEYS, SUBSET_ONLY
from library.options.declare import Option, Script, options_of
from library.options.groups.scripts import SCRIPTS
from library.options.tool_groups.table import TOOLS
from tests.attack.spoiling import spoil
from tests.attack.surroundings import COMMANDS, DATA, READERS
from tests.attack.values import TOML_VALUES, WORDS, sound_words

TRAINING = tuple(spec.name for spec in SCRIPTS)
SPECS: dict[str, type[Script]] = {spec.name: spec for spec in (*SCRIPTS, *TOOLS)}
DRY = 0.7  # share of training commands that only look


@dataclass(frozen=True)
class Case:
    """A whole command, and what is done to the surroundings before it."""

    what: str
    script: str
    argv: tuple[str, ...]
    prepare: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Target:
    """What is attacked: `make` draws a case."""

    name: str
    make: Callable[[random.Random, Mapping[str, str]], Case]


def case(seed: int, number: int, places: Mapping[str, str], only: str = "") -> Case:
    """One wrong input; `places` are paths that nothing can be read from or written to, by name. All targets come by in turn.

    `only` is a pattern that the names of targets have to hold.
    """
    order = [target for target in targets() if re.search(only, target.name)]
    round_, position = divmod(number, len(order))
    random.Random(f"{seed} {round_}").shuffle(order)
    return order[position].make(random.Random(f"{seed} {number}"), places)


@functools.cache
def targets() -> tuple[Target, ...]:
    """All that is attacked, without order. An option that several scripts share is one target."""
    shared: dict[tuple[str, str], list[str]] = {}
    for spec in SPECS.values():
        for option in options_of(spec):
            kind = "training" if spec.name in TRAINING else spec.name
            shared.setdefault((kind, option.field), []).append(spec.name)
    found = [Target(f"{kind} --{field}", functools.partial(_of_option, field, names)) for (kind, field), names in shared.items()]
    found += [Target(f"dataset key {name}", functools.partial(_of_key, name)) for name in KEYS]
    reading = [Target(f"{script} reads {files}", functools.partial(_of_file, script, more, files)) for script, more, files in READERS]
    found += reading * 3  # a file can be spoilt in many more ways than a value
    found += [Target(f"{script} as a whole", functools.partial(_of_words, script)) for script in COMMANDS]
    return tuple(found)


def _command(script: str, rng: random.Random, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    argv = rng.choice((COMMANDS[script][0], *COMMANDS[script])) if not more else COMMANDS[script][0]
    return (*argv, *(("--dry_run",) if script in TRAINING and rng.random() < DRY else ()), *more)


def _of_option(field: str, names: list[str], rng: random.Random, places: Mapping[str, str]) -> Case:
    script = rng.choice(names)
    option = next(one for one in options_of(SPECS[script]) if one.field == field)
    argv = _command(script, rng)
    if option.positional:
        place = [one.field for one in options_of(SPECS[script]) if one.positional].index(field)
        words = list(argv)
        words[place] = _word(option, rng, places)
        return Case(f"{field} = {words[place][:80]!r}", script, tuple(words))
    if script in TRAINING and option.field not in ("config_file", "output_config") and rng.random() < 0.35:
        return _in_a_file(option, script, argv, rng, places)
    added = _words_of(option, rng, places)
    return Case(f"{field}: {' '.join(added)[:80]!r}", script, (*argv, *added))


def _words_of(option: Option, rng: random.Random, places: Mapping[str, str]) -> tuple[str, ...]:
    word = _word(option, rng, places)
    way = rng.random()
    if option.type is bool:
        return (option.flag,) if way < 0.4 else (option.flag, word) if way < 0.8 else (f"{option.flag}={word}",)
    if way < 0.6:
        return option.flag, word
    if way < 0.7:
        return (f"{option.flag}={word}",)
    if way < 0.75:
        return (option.flag,)
    if way < 0.85:
        return option.flag, word, _word(option, rng, places)
    if way < 0.95:
        return option.flag, rng.choice(sound_words(option)), option.flag, word
    return (option.flag[: rng.randrange(3, len(option.flag) + 1)], word)


def _word(option: Option, rng: random.Random, places: Mapping[str, str]) -> str:
    if option.path is not None and rng.random() < 0.5:
        return rng.choice(list(places.values()))
    if option.path is not None and rng.random() < 0.4:
        return rng.choice(FILES)
    return rng.choice(WORDS)


# Sound files, each of which is the wrong one for most options.
FILES = (
    "model.safetensors", "model.ckpt", "diffusers", "diffusers/unet", "diffusers/model_index.json", "lora.safetensors", "lora.pt",
    "word.safetensors", "word.png", "state", "state/state.json", "images", "images/2_shs dog", "images/2_shs dog/0.png", "meta.json",
    "data.toml", "data.json", "options.toml", "prompts.txt", "prompts.toml", "prompts.json", "tracker.toml", "notes.json", "run.json",
    "masks", "vae.safetensors", "tagger", "out/x", "new/x/y.safetensors", "model.safetensors/x", "MODEL.safetensors", "model.safetensor",
    "images/2_shs dog/0.png/x.toml",
)  # fmt: skip


def _in_a_file(option: Option, script: str, argv: tuple[str, ...], rng: random.Random, places: Mapping[str, str]) -> Case:
    value = rng.choice(TOML_VALUES)
    if option.path is not None and rng.random() < 0.5:
        value = f"'{rng.choice((*places.values(), *FILES))}'"
    text = f"[section]\n{option.field} = {value}\n"
    flags = {option.flag, *(f"--{name}" for name in option.aliases)}
    kept = _without(argv, flags)
    return Case(
        f"--config_file with {option.field} = {value[:80]}", script, (*kept, "--config_file", "wrong.toml"), _writes("wrong.toml", text)
    )


def _without(argv: tuple[str, ...], flags: set[str]) -> tuple[str, ...]:
    """The command line without these flags and what follows each, so that the file's value counts."""
    kept: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word not in flags:
            kept.append(word)
            continue
        while words and not words[0].startswith("--"):
            words.pop(0)
    return tuple(kept)


def _writes(name: str, text: str) -> Callable[[Path], str]:
    def prepare(folder: Path) -> str:
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        return ""

    return prepare


def _of_key(name: str, rng: random.Random, places: Mapping[str, str]) -> Case:
    value = f"'{rng.choice((*places.values(), *FILES))}'" if KEYS[name].path is not None and rng.random() < 0.5 else rng.choice(TOML_VALUES)
    line = f"{name} = {value}"
    at_dataset = KEYS[name].level == DATASET or (KEYS[name].level != SUBSET_ONLY and rng.random() < 0.5)
    text = DATA.format(datasets=line if at_dataset else "", subsets="" if at_dataset else line)
    text = "\n".join(one for one in text.splitlines() if one == line or not one.startswith(f"{name} ="))
    script = rng.choice(TRAINING)
    argv = (
        *_without(_command(script, rng), {"--dataset_config", "--train_data_dir", "--in_json", "--resolution"}),
        "--dataset_config",
        "wrong.toml",
    )
    return Case(f"dataset config with {line[:80]}", script, argv, _writes("wrong.toml", text))


def _of_file(script: str, more: tuple[str, ...], files: tuple[str, ...], rng: random.Random, places: Mapping[str, str]) -> Case:
    pattern = rng.choice(files)
    argv = (
        _command(script, rng, more)
        if more
        else (*COMMANDS[script][0], *(("--dry_run",) if script in TRAINING and rng.random() < DRY else ()))
    )
    state = rng.getrandbits(64)

    def prepare(folder: Path) -> str:
        choice = random.Random(state)
        base, star, _ = pattern.partition("*")
        found = (
            sorted(path for path in (folder / base).rglob("*") if path.is_file())
            if star and pattern.endswith("/*")
            else sorted(folder.glob(pattern))
        )
        path = choice.choice(found)
        return f"{path.relative_to(folder)}: {spoil(path, choice)}"

    return Case(f"a spoilt {pattern}", script, argv, prepare)


def _of_words(script: str, rng: random.Random, places: Mapping[str, str]) -> Case:
    """Words left out, doubled, exchanged, or put in between."""
    words = list(_command(script, rng))
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(words) + 1)
        way = rng.choice(("in", "in", "out", "twice", "instead"))
        wrong = rng.choice((*WORDS, "--lerning_rate", "--vae", "--help", "--v2", "-h", *places.values()))
        if way == "in" or not words:
            words.insert(place, wrong)
        elif way == "out":
            del words[place % len(words)]
        elif way == "twice":
            words.insert(place, words[place % len(words)])
        else:
            words[place % len(words)] = wrong
    return Case("words in disorder", script, tuple(words))
