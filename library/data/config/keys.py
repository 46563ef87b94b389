"""The keys of a dataset config as one table: where each is allowed, which values it accepts and what it expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from library.image_endings import is_picture_ending
from library.options.bounds import (
    MOST_BATCH,
    MOST_EPOCHS,
    MOST_PIXELS,
    MOST_RATIO,
    MOST_REPEATS,
    MOST_SEED,
    MOST_STEPS,
    MOST_TAGS,
    MOST_WEIGHT,
)
from library.options.declare import PathUse
from library.parsing.signs import HALF_PAIR, is_text
from library.paths.faults import part_fault
from library.paths.look import expanded
from library.words import cut

DATASET = "dataset"  # [general], [[datasets]]
SUBSET = "subset"  # [general], [[datasets]], [[datasets.subsets]]
SUBSET_ONLY = "subset only"  # [[datasets.subsets]]


class NotAccepted(Exception):
    """A value that a key does not accept; the text describes what the key expects."""


Check = Callable[[object], object]  # returns the converted value or raises NotAccepted


@dataclass(frozen=True)
class Key:
    """One key: `level` is DATASET, SUBSET or SUBSET_ONLY; `check` converts a value or raises NotAccepted."""

    name: str
    level: str
    check: Check
    expected: str
    path: PathUse | None = None  # kind of path, as for an option


def _whole(at_least: int, at_most: int, example: str) -> tuple[Check, str]:
    expected = f"a whole number from {at_least} to {at_most}, e.g. {example}"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            raise NotAccepted(expected + _unquote(value))
        return value

    return check, expected


def _number(low: float, high: float, example: str) -> tuple[Check, str]:
    expected = f"a number from {low:g} to {high:g}, e.g. {example}"

    def check(value: object) -> float:
        # `not (low <= …)` refuses nan too
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise NotAccepted(expected + _unquote(value))
        return float(value)

    return check, expected


def _truth(example: str) -> tuple[Check, str]:
    expected = f"true or false, e.g. {example}"

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            hint = " (without quotes)" if isinstance(value, str) and value.lower() in ("true", "false") else ""
            raise NotAccepted(expected + hint)
        return value

    return check, expected


def _half(*values: object) -> str:
    """A remark if one of the values is text that is none, which JSON can spell."""
    return f"; it has {HALF_PAIR}" if any(isinstance(value, str) and not is_text(value) for value in values) else ""


def _text(example: str) -> tuple[Check, str]:
    expected = f"text in quotes, e.g. {example}"

    def check(value: object) -> str:
        if not is_text(value):
            raise NotAccepted(expected + _half(value))
        return str(value)

    return check, expected


def _texts(example: str) -> tuple[Check, str]:
    expected = f"text in quotes, or a list of such, e.g. {example}"

    def check(value: object) -> tuple[str, ...]:
        texts = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(map(is_text, texts)):
            raise NotAccepted(expected + _half(*texts))
        return texts

    return check, expected


def _path(example: str) -> tuple[Check, str]:
    expected = f"a path in single quotes, e.g. {example}"

    def check(value: object) -> Path:
        if not isinstance(value, str | Path) or not str(value).strip():
            raise NotAccepted(expected)
        if any(ord(letter) < 32 for letter in str(value)):
            raise NotAccepted(f"{expected}; between double quotes a backslash starts an escape sequence (\\t is a tab, \\n a new line)")
        return expanded(Path(value))

    return check, expected


def _choice(example: str, choices: tuple[str, ...]) -> tuple[Check, str]:
    expected = f"one of {', '.join(choices)}, e.g. {example}"

    def check(value: object) -> str:
        if value not in choices:
            raise NotAccepted(expected)
        return str(value)

    return check, expected


def _separator(example: str) -> tuple[Check, str]:
    expected = f"one or more characters in quotes, e.g. {example}"

    def check(value: object) -> str:
        if not value or not is_text(value):
            raise NotAccepted(expected + _half(value))
        return str(value)

    return check, expected


def _table(value: object) -> str:
    """A table as JSON text, so that options that contain it stay comparable."""
    if not isinstance(value, dict):
        raise NotAccepted('a table, e.g. custom_attributes = {style = "ink"}')
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _extension(value: object) -> str:
    if not isinstance(value, str):
        raise NotAccepted('a file extension in quotes, e.g. caption_extension = ".txt"')
    if value.isalnum():
        raise NotAccepted(f'a file extension with its dot: caption_extension = ".{cut(value)}"')
    if is_picture_ending(value):
        raise NotAccepted('the file extension of captions, not of images, e.g. caption_extension = ".txt"')
    if fault := part_fault(value):
        raise NotAccepted(f'a file extension, e.g. caption_extension = ".txt"; {fault}')
    return value


def _bucket_steps(value: object) -> int:
    """Steps below 8 become 8, since the VAE works on blocks of 8 × 8 pixels; front-ends send smaller values for "as fine as possible"."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_PIXELS:
        raise NotAccepted(f"a whole number from 8 to {MOST_PIXELS}, e.g. bucket_reso_steps = 64" + _unquote(value))
    return max(8, value)


def resolution(value: object) -> tuple[int, int]:
    """(width, height) in pixels from 512, [512, 768], "512" or "512,768"; NotAccepted otherwise."""
    parts: list[object] = []
    if isinstance(value, str):
        parts = [int(part) if part.strip().isdecimal() and len(part) < 20 else part for part in value.split(",")]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, int):
        parts = [value]
    if len(parts) == 1:
        parts *= 2
    pixels = [part for part in parts if isinstance(part, int) and not isinstance(part, bool) and 0 < part <= MOST_PIXELS]
    if len(parts) != 2 or len(pixels) != 2:
        raise NotAccepted(
            f"pixels, from 1 to {MOST_PIXELS}, as one whole number or [width, height], e.g. resolution = 512 or resolution = [512, 768]"
        )
    return pixels[0], pixels[1]


def _face_range(value: object) -> tuple[float, float]:
    expected = "two numbers, the smaller one first, both at least 1, e.g. face_crop_aug_range = [2.0, 4.0]"
    if isinstance(value, str):
        try:
            value = [float(part) for part in value.split(",")]
        except ValueError:
            raise NotAccepted(expected) from None
    if not isinstance(value, list | tuple) or len(value) != 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in value):
        raise NotAccepted(expected)
    low, high = float(value[0]), float(value[1])
    if not 1 <= low <= high <= MOST_PIXELS:
        raise NotAccepted(expected)
    return low, high


def _unquote(value: object) -> str:
    if isinstance(value, str) and value.strip().replace(".", "", 1).lstrip("-").isdigit():
        return " (without quotes)"
    return ""


INTERPOLATIONS = ("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area", "box")

_RESOLUTION = "pixels: one whole number for a square, or [width, height]"

KEYS: Mapping[str, Key] = MappingProxyType(
    {
        key.name: key
        for key in (
            Key("resolution", DATASET, resolution, _RESOLUTION),
            Key("batch_size", DATASET, *_whole(1, MOST_BATCH, "batch_size = 2")),
            Key("enable_bucket", DATASET, *_truth("enable_bucket = true")),
            Key("min_bucket_reso", DATASET, *_whole(8, MOST_PIXELS, "min_bucket_reso = 256")),
            Key("max_bucket_reso", DATASET, *_whole(8, MOST_PIXELS, "max_bucket_reso = 1024")),
            Key("bucket_reso_steps", DATASET, _bucket_steps, "a whole number of at least 8, e.g. bucket_reso_steps = 64"),
            Key("bucket_no_upscale", DATASET, *_truth("bucket_no_upscale = true")),
            Key("network_multiplier", DATASET, *_number(0, MOST_RATIO, "network_multiplier = 0.8")),
            Key("num_repeats", SUBSET, *_whole(0, MOST_REPEATS, "num_repeats = 10")),
            Key("shuffle_caption", SUBSET, *_truth("shuffle_caption = true")),
            Key("keep_tokens", SUBSET, *_whole(0, MOST_TAGS, "keep_tokens = 1")),
            Key("caption_extension", SUBSET, _extension, 'a file extension, e.g. ".txt"; "" reads none', path="part of a name"),
            Key("caption_prefix", SUBSET, *_text("caption_prefix = 'shs dog, '")),
            Key("caption_suffix", SUBSET, *_text("caption_suffix = ', photo'")),
            Key("caption_separator", SUBSET, *_separator("caption_separator = ';'")),
            Key("keep_tokens_separator", SUBSET, *_text("keep_tokens_separator = '|||'")),
            Key("secondary_separator", SUBSET, *_text("secondary_separator = ';;;'")),
            Key("enable_wildcard", SUBSET, *_truth("enable_wildcard = true")),
            Key("caption_dropout_rate", SUBSET, *_number(0, 1, "caption_dropout_rate = 0.1")),
            Key("caption_dropout_every_n_epochs", SUBSET, *_whole(0, MOST_EPOCHS, "caption_dropout_every_n_epochs = 5")),
            Key("caption_tag_dropout_rate", SUBSET, *_number(0, 1, "caption_tag_dropout_rate = 0.1")),
            Key("token_warmup_min", SUBSET, *_whole(0, MOST_TAGS, "token_warmup_min = 1")),
            Key("token_warmup_step", SUBSET, *_number(0, MOST_STEPS, "token_warmup_step = 500")),
            Key("flip_aug", SUBSET, *_truth("flip_aug = true")),
            Key("color_aug", SUBSET, *_truth("color_aug = true")),
            Key("random_crop", SUBSET, *_truth("random_crop = true")),
            Key("face_crop_aug_range", SUBSET, _face_range, "two numbers, e.g. [2.0, 4.0]"),
            Key("loss_weight", SUBSET, *_number(0, MOST_WEIGHT, "loss_weight = 0.5")),
            Key("prior_prompt", SUBSET, *_texts("prior_prompt = 'dog'")),
            Key("prior_identifier", SUBSET, *_text("prior_identifier = 'shs'")),
            Key("prior_share", SUBSET, *_number(0, 1, "prior_share = 0.5")),
            Key("alpha_mask", SUBSET, *_truth("alpha_mask = true")),
            Key("resize_interpolation", SUBSET, *_choice("resize_interpolation = 'bicubic'", INTERPOLATIONS)),
            Key("custom_attributes", SUBSET, _table, 'a table, e.g. {style = "ink"}'),
            Key("validation_split", SUBSET, *_number(0, 1, "validation_split = 0.1")),
            Key("validation_seed", SUBSET, *_whole(0, MOST_SEED, "validation_seed = 42")),
            Key("image_dir", SUBSET_ONLY, *_path(r"image_dir = 'C:\photos\dog'"), path="folder"),
            Key("class_tokens", SUBSET_ONLY, *_text("class_tokens = 'shs dog'")),
            Key("is_reg", SUBSET_ONLY, *_truth("is_reg = true")),
            Key("conditioning_data_dir", SUBSET_ONLY, *_path(r"conditioning_data_dir = 'C:\photos\masks'"), path="folder"),
            Key("metadata_file", SUBSET_ONLY, *_path(r"metadata_file = 'C:\photos\meta.json'"), path="file"),
        )
    }
)

# Names from the command line, and the config's name for each.
OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "train_batch_size": "batch_size",
        "dataset_repeats": "num_repeats",
        "repeats": "num_repeats",
        "train_data_dir": "image_dir",
        "reg_data_dir": "image_dir",
        "in_json": "metadata_file",
        "caption_extention": "caption_extension",
        "caption_file_extension": "caption_extension",
        "class_token": "class_tokens",
    }
)


def shown(value: object) -> str:
    """A value as written in a config file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if '"' in value or any(ord(letter) < 32 for letter in value) else f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"{str(value)[:8]}… ({len(str(abs(value)))} digits)"
    return str(value)
