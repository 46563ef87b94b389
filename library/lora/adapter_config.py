"""The adapter settings of Diffusers and PEFT, from the metadata of a LoRA file or the file next to it; they determine its strength."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from library.errors import UserError, coded
from library.parsing.bounds import TooMuch
from library.parsing.json_text import parse_json
from library.paths.look import is_file
from library.paths.opening import read_text

METADATA_KEY = "lora_adapter_metadata"  # of Diffusers: one table for all parts, with the key prefixes `unet.` and `text_encoder.`
FILE = "adapter_config.json"  # of PEFT, next to adapter_model.safetensors
DEFAULT_ALPHA = 8.0  # PEFT's default, for a table without alpha
PARTS = ("unet", "text_encoder")
_LARGEST_ALPHA = 1e8
_MOST_REPEATS = 3  # in a pattern: more repeats, or nested ones, may take forever to fail to match
# Initializations that also change the model's weights, so the tensors alone are not the difference from it.
_CHANGES_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")


@dataclass(frozen=True)
class AdapterConfig:
    """The strength of a part's modules: alpha/r, or alpha/√r with `use_rslora`; patterns apply to the modules whose paths they match."""

    alpha: float
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False

    def alpha_of(self, path: str, rank: int) -> float:
        """Return the alpha, as web UIs use it (strength alpha/rank), of the module at the dotted `path`."""
        alpha = next((value for pattern, value in self.alpha_pattern.items() if _matches(pattern, path)), self.alpha)
        return alpha * math.sqrt(rank) if self.use_rslora else alpha


def adapter_configs(metadata: Mapping[str, str], file: Path, source: str) -> dict[str, AdapterConfig]:
    """Read the settings of a file by part; raises UserError, with `source` first, for settings that are unreadable or not supported."""
    if METADATA_KEY in metadata:
        return _by_part(_table(metadata[METADATA_KEY], f"{source}: {METADATA_KEY} in its metadata"), source)
    beside = file.with_name(FILE)
    if not is_file(beside):
        return {}
    try:
        text = read_text(beside)
    except (OSError, ValueError) as fault:
        raise UserError(
            coded("LORA-006", f"{source}: {FILE} next to it cannot be read; download it again, since it sets the strength of the LoRA")
        ) from fault
    return _by_part(_table(text, f"{source}: {FILE} next to it"), source)


def _table(text: str, what: str) -> dict[str, object]:
    try:
        table = parse_json(text)
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{what}: {fault}")) from fault
    except ValueError as fault:
        raise UserError(coded("LORA-006", f"{what} is not valid JSON, so its strength is unknown; download the file again")) from fault
    if not isinstance(table, dict):
        raise UserError(coded("LORA-006", f"{what} is not a table, so its strength is unknown; download the file again"))
    return table


def _by_part(table: Mapping[str, object], source: str) -> dict[str, AdapterConfig]:
    tables: dict[str, dict[str, object]] = {}
    for key, value in table.items():
        part, dot, name = key.partition(".")
        if dot and part in PARTS:
            tables.setdefault(part, {})[name] = value
    if not tables:  # of a single part, not named
        tables = {part: {key: value for key, value in table.items() if "." not in key} for part in PARTS}
    return {part: _config(entries, source) for part, entries in tables.items() if entries.keys() & {"r", "lora_alpha", "alpha_pattern"}}


def _config(entries: Mapping[str, object], source: str) -> AdapterConfig:
    begun = str(entries.get("init_lora_weights", "")).lower()
    if begun.startswith(_CHANGES_THE_BASE):
        raise UserError(
            coded(
                "LORA-006",
                f"{source}: was started with init_lora_weights {begun!r}, which changes the model's own weights too; "
                "convert it with PEFT first (save_pretrained with path_initial_model_for_weight_conversion)",
            )
        )
    pattern = entries.get("alpha_pattern")
    for key in pattern if isinstance(pattern, dict) else ():
        if re.search(r"\)[*+{]", key) or len(re.findall(r"[*+{]", key)) > _MOST_REPEATS:
            raise UserError(
                coded("LORA-006", f"{source}: its settings have an unsupported alpha_pattern ({key[:100]}); name the modules one by one")
            )
    patterns = {str(key): _number(value, source) for key, value in pattern.items()} if isinstance(pattern, dict) else {}
    alpha = _number(entries.get("lora_alpha", DEFAULT_ALPHA), source)
    return AdapterConfig(alpha, patterns, bool(entries.get("use_rslora")), bool(entries.get("use_dora")))


def _number(value: object, source: str) -> float:
    if not isinstance(value, int | float) or not -_LARGEST_ALPHA <= value <= _LARGEST_ALPHA:
        said = "a number of many digits" if isinstance(value, int) and abs(value) > _LARGEST_ALPHA else repr(value)[:100]
        raise UserError(
            coded(
                "LORA-006",
                f"{source}: its settings say {said} where a number is expected (lora_alpha, alpha_pattern); download the file again",
            )
        )
    return float(value)


def _matches(pattern: str, path: str) -> bool:
    """Match as PEFT does: a regular expression for the path or its last levels. Older files have one more level for text encoders."""
    try:
        return any(re.fullmatch(rf"(.*\.)?({pattern})", name) for name in (path, f"text_model.{path}"))
    except re.error:
        return path == pattern or path.endswith(f".{pattern}")
