"""Parse the command that a user asks about with the suite's parser, and list the files and folders that it uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from library.console import keep_secret, log
from library.doctor.findings import Finding, fault, named, ok
from library.doctor.folders import Place
from library.errors import UserError
from library.options.declare import Script, Tool, options_of, options_table
from library.options.groups.scripts import SCRIPTS, TrainingScript
from library.options.tool_groups.latents import CacheLatents
from library.options.tool_groups.table import TOOLS
from library.paths.look import exists, expanded

_WRITTEN = ("output_dir", "spare_dir", "logging_dir", "model_dir", "dst_img_folder")
_WRITTEN_FILES = ("save_to", "out_json", "model_to_save", "report_html")
_READ = (
    "pretrained_model_name_or_path", "vae", "dataset_config", "train_data_dir", "reg_data_dir", "conditioning_data_dir",
    "in_json", "resume", "network_weights", "weights", "base_weights", "sample_prompts", "log_tracker_config",
    "tokenizer_cache_dir", "model", "models", "file", "model_name_or_path", "sd_model", "model_org", "model_tuned",
    "model_to_load", "reference_model", "src_img_folder", "rules", "from_json", "caption_weights",
)  # fmt: skip
_MODELS = frozenset(  # that may also be a name on the Hugging Face Hub
    "pretrained_model_name_or_path vae model_name_or_path sd_model model_org model_tuned model_to_load reference_model "
    "caption_weights".split()
)
_HUB_NAME = re.compile(r"(?!.*\.(?:safetensors|ckpt|pt|pth|bin)$)[\w.-]+(?:/[\w.-]+)?")
_WITH_ACTS = ("-h", "--help", "--output_config")  # words for which the parser prints or writes something
_TO_DISK = ("cache_latents_to_disk", "cache_text_encoder_outputs_to_disk")


@dataclass(frozen=True)
class Command:
    """A script, its words, and its options if they can be parsed."""

    spec: type[Script] | None
    words: tuple[str, ...]
    options: Script | None = None

    def without_values(self) -> str:
        """The script and the flags alone, for a report."""
        if self.spec is None:
            return "(no script)"
        known = {f"--{name}" for option in options_of(self.spec) for name in option.names}
        flags = [word.partition("=")[0] for word in self.words if word.startswith("--")]
        return " ".join([self.spec.name, *(flag if flag in known else "--(unknown)" for flag in flags)])


def split_command(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split the doctor's words from those of the command, which starts at `--` or at the first word that is no flag; None without a
    command."""
    for place, word in enumerate(argv):
        if word == "--":
            return list(argv[:place]), list(argv[place + 1 :])
        if not word.startswith("-"):
            return list(argv[:place]), list(argv[place:])
    return list(argv), None


def read_command(words: Sequence[str]) -> tuple[Command, Finding]:
    """Parse `[accelerate launch …] script.py --option …`; errors in it become one finding."""
    place = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    if place is None:
        return Command(None, ()), fault("the command does not name a script", "write -- train_network.py and its options")
    script, rest = PureWindowsPath(words[place]).name, [word for word in words[place + 1 :] if word not in _WITH_ACTS]
    spec = next((spec for spec in (*SCRIPTS, *TOOLS) if Path(spec.name).name == script), None)
    if spec is None:
        known = ", ".join(spec.name for spec in SCRIPTS)
        return Command(None, ()), fault(f"{script} is not a script of this suite", f"name one of {known}, or a tool", script)
    _keep_secrets(spec, rest)
    command = Command(spec, tuple(rest))
    private = tuple(word for item in rest for word in (item, item.partition("=")[2]) if not word.startswith("--"))
    try:
        options = _checked(spec, rest)
    except UserError as reason:
        return command, fault(f"the command of {spec.name}: {'; '.join(reason.lines)}", "change the command as it says", *private)
    except Exception as reason:  # a package that reads config files is missing or damaged
        return command, fault(f"the command cannot be read: {named(reason)}", "install the requirements first", *private)
    return Command(spec, tuple(rest), options), ok(f"the options of {spec.name} are valid and compatible")


def _checked(spec: type[Script], words: Sequence[str]) -> Script:
    from library.options.reading.parse import parse
    from library.options.rules.check import check

    log.disabled = True  # the run itself will print the warnings
    try:
        options = parse(spec, words)
        if not isinstance(options, Tool):
            check(options)
    finally:
        log.disabled = False
    return options


def _keep_secrets(spec: type[Script], words: Sequence[str]) -> None:
    """Before anything is printed about a command that cannot be parsed."""
    secret = {f"--{name}" for option in options_of(spec) if option.secret for name in option.names}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, has_value, value = word.partition("=")
        if name in secret:
            keep_secret(value if has_value else following)


def places_of(options: Script) -> Iterator[Place | Finding]:
    """Yield every place that the command reads or writes; a finding if its dataset config cannot be read."""
    values = options_table(options)
    checked = not isinstance(options, Tool)  # the check has already reported what is missing
    images_written = any(values.get(name) for name in _TO_DISK) or options.name == "finetune/prepare_buckets_latents.py"
    for name in (*_READ, *_WRITTEN, *_WRITTEN_FILES):
        for path in _paths(values.get(name)):
            if name in _MODELS and not exists(path) and _HUB_NAME.fullmatch(path.as_posix()):
                yield Place(f"the Hub's cache for --{name}", _hub_cache(), written=True)
                continue
            written = name in (*_WRITTEN, *_WRITTEN_FILES)
            yield Place(f"--{name}", path, written, is_file=name in _WRITTEN_FILES, may_be_missing=checked)
            if images_written and name in ("train_data_dir", "reg_data_dir"):
                yield Place(f"caches in --{name}", path, written=True)
    if isinstance(options, TrainingScript | CacheLatents) and options.data.dataset_config is not None:
        yield from _dataset_places(expanded(options.data.dataset_config), images_written)


def _paths(value: object) -> list[Path]:
    many = value if isinstance(value, tuple) else (value,)
    return [expanded(Path(one)) for one in many if isinstance(one, str | Path) and str(one)]


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return expanded(Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub"))


def _dataset_places(config: Path, caches: bool) -> Iterator[Place | Finding]:
    """Yield the folders and files that a dataset config names, each once."""
    try:
        from library.data.config.config_text import read_tree

        tree = read_tree(config, "--dataset_config")
    except UserError as reason:
        yield fault("; ".join(reason.lines), "correct the file", str(config), *reason.problems)
        return
    except Exception as reason:
        yield fault(f"--dataset_config cannot be read: {named(reason)}", "install the requirements first", str(config))
        return
    seen: set[tuple[str, str]] = set()
    general = tree.get("general")
    caches = caches or (isinstance(general, dict) and bool(general.get("cache_latents_to_disk")))
    for key, value in _leaves(tree):
        if key in ("image_dir", "conditioning_data_dir", "metadata_file") and isinstance(value, str) and (key, value) not in seen:
            seen.add((key, value))
            yield Place(key, expanded(Path(value)), written=False)
            if caches and key == "image_dir":
                yield Place("caches in image_dir", expanded(Path(value)), written=True)


def _leaves(tree: object) -> Iterator[tuple[str, object]]:
    if isinstance(tree, list):
        for entry in tree:
            yield from _leaves(entry)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, dict | list):
                yield from _leaves(value)
            else:
                yield str(key), value
