"""`<name>.run.json` next to the product: the options of a run with their origins, and its environment, to repeat the run."""

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
MOST_HASHED = 1 << 30  # bytes of images; hashing more would keep the disk busy that training reads from


class Manifest:
    """One JSON file per run, rewritten whenever more is known; an error is logged once and stops nothing."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.failed = 0
        self._facts = dict(facts)

    def write(self, **more: object) -> None:
        """Add `more` facts and write the file atomically."""
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
    """Return the path of a run's manifest."""
    return options.saving.folder / f"{options.saving.output_name or 'last'}.run.json"


def run_facts_of(options: TrainingScript, seed: int, started: float, plan: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known when a run starts. `seed` is the one in use, including a random one."""
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
    """Return every option that is not secret: its value as JSON, and whether it comes from the command line, a file or the default."""
    values = options_table(options)
    return {
        option.field: {"value": as_json(values[option.field]), "from": _origin(options, option.field)}
        for option in options_of(type(options))
        if not option.secret
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages that affect the result."""
    versions_of = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            versions_of[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions_of


def moment(seconds: float) -> str:
    """Format a time as ISO 8601 in the local time zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


class ImageHash:
    """SHA-256 over all image files of a run in order, computed in the background; None if they exceed MOST_HASHED."""

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
        except OSError:  # the loader reports images that disappear during training
            return

    def value(self) -> str | None:
        """Return the hash; waits for it."""
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
