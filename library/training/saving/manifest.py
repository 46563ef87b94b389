"""`<name>.run.json` beside the product: the options of a run with where each came from, and what it ran on, to repeat it by."""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from library.console import log
from library.files import NOT_UNICODE, atomic_write
from library.options.declare import options_of, options_table
from library.options.groups.scripts import TrainingScript
from library.options.reading.values import as_json
from library.paths.opening import open_file, read_text

FORMAT = 1
PACKAGES = (
    "torch diffusers transformers accelerate safetensors huggingface-hub numpy pillow opencv-python bitsandbytes xformers "
    "prodigyopt dadaptation lion-pytorch schedulefree lycoris-lora"
).split()
MOST_HASHED = 1 << 30  # bytes of images; hashing more would keep a disk busy that the training reads from


class Manifest:
    """One file for a run, written anew whenever more is known; a fault is told once and stops nothing."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.failed = 0
        self._facts = dict(facts)

    def write(self, **more: object) -> None:
        """Take in `more` facts and write the file, whole or not at all."""
        self._facts |= more
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary:
                temporary.write_text(json.dumps(self._facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors=NOT_UNICODE)
        except OSError as error:
            self.failed += 1
            if self.failed == 1:
                log.warning(f"{self.path} cannot be written ({error.strerror or error}); training continues without it")


def manifest_path(options: TrainingScript) -> Path:
    """Where the manifest of a run lies."""
    return options.saving.folder / f"{options.saving.output_name or 'last'}.run.json"


def run_facts_of(options: TrainingScript, seed: int, started: float, plan: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run when it begins. `seed` is the one in use, also where none was given."""
    config = options.data.dataset_config
    return {
        "format": FORMAT,
        "script": options.name,
        "started": moment(started),
        "finished": None,
        "result": None,
        "seed": seed,
        "options": options_with_origins(options),
        "dataset_config": None if config is None else _text(config),
        "plan": dict(plan),
        "data": dict(data),
        "versions": versions(),
    }


def options_with_origins(options: TrainingScript) -> dict[str, dict[str, Any]]:
    """Every option but secret ones: its value as JSON holds it, and whether it is from the command line, a file or the default."""
    values = options_table(options)
    return {
        option.field: {"value": as_json(values[option.field]), "from": _origin(options, option.field)}
        for option in options_of(type(options))
        if not option.secret
    }


def versions() -> dict[str, str]:
    """Python, system and the packages that have a say in the result."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def moment(seconds: float) -> str:
    """A time for people and programs: ISO 8601 in the machine's own zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


class ImageHash:
    """The SHA-256 of all image files of a run, one after the other, made in the background; None where they are over MOST_HASHED."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._value: str | None = None
        self._thread = threading.Thread(target=self._compute, daemon=True)
        self._thread.start()

    def _compute(self) -> None:
        try:
            if sum(path.stat().st_size for path in self._paths) > MOST_HASHED:
                return
            digest = hashlib.sha256()
            for path in self._paths:
                with open_file(path) as file:
                    while piece := file.read(1 << 20):
                        digest.update(piece)
            self._value = digest.hexdigest()
        except OSError:  # images that go away while they are trained are told by the loader
            return

    def value(self) -> str | None:
        """The hash; waits for it."""
        self._thread.join()
        return self._value


def _origin(options: TrainingScript, field: str) -> str:
    if not options.given(field):
        return "default"
    place = options.origin(field)
    return place.removeprefix("--") if place.startswith("--config_file ") else "command line"


def _text(path: Path) -> str | None:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError):
        return None
