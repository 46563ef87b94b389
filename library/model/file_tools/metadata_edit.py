"""Read and change the metadata of `.safetensors` files; only the header is rewritten, the tensors stay."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from library.containers.weights_file import SafetensorsFile, open_weights
from library.errors import UserError, coded, first_line
from library.files import atomic_write
from library.model.files.locate import WEIGHT_SUFFIXES
from library.parsing.bounds import TooMuch
from library.parsing.json_text import parse_json
from library.parsing.literal import parse_literal
from library.parsing.signs import is_text
from library.paths.opening import open_file, read_bytes
from library.words import quoted

PIECE = 1 << 22  # bytes copied at once
LEGACY_FROM, LEGACY_TO = 0x100000, 0x110000  # the range that AUTOMATIC1111's short hash reads, of a file with only the ss_ metadata


def open_safetensors(path: Path, option: str) -> SafetensorsFile:
    """Open the file by its header; raises UserError for another format, which has no metadata."""
    file = open_weights(path, option)
    if not isinstance(file, SafetensorsFile):
        raise UserError(coded("TOOL-009", f"{option} {path}: is not a .safetensors file, and only those have metadata; convert it first"))
    return file


def parse_metadata(text: str | None) -> dict[str, str]:
    """Parse `{'name': 'mine'}`, in Python or JSON syntax, to entries; raises UserError for anything else."""
    if text is None:
        return {}
    try:
        parsed = parse_json(text)
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"--metadata: {fault}")) from fault
    except ValueError:
        try:
            parsed = parse_literal(text)
        except TooMuch as fault:
            raise UserError(coded("CFG-012", f"--metadata: {fault}")) from fault
        except ValueError as fault:
            raise UserError(coded("TOOL-009", f"--metadata {text!r}: write it as {{'name': 'mine', 'resolution': '512x512'}}")) from fault
    return _as_entries(parsed, f"--metadata {text!r}")


def entries_of(path: Path | None, items: Sequence[str]) -> dict[str, str]:
    """Return the entries of a JSON file, then those of `key=value` items; raises UserError with all errors."""
    entries: dict[str, str] = {}
    if path is not None:
        try:
            entries = _as_entries(parse_json(read_bytes(path)), f"--from_json {path}")  # also UTF-16, which > in PowerShell writes
        except TooMuch as fault:
            raise UserError(coded("CFG-012", f"--from_json {path}: {fault}")) from fault
        except ValueError as fault:
            raise UserError(
                coded("CFG-002", f"--from_json {path}: is not valid JSON ({fault}); fix it, or create it with show_metadata.py --json")
            ) from fault
    if wrong := [item for item in items if not item.partition("=")[0].strip() or "=" not in item]:
        raise UserError(*(coded("OPT-010", f"--set {item!r}: must be key=value, such as title=mine") for item in wrong))
    values = [(key.strip(), value) for key, _, value in (item.partition("=") for item in items)]
    if twice := [key for key, count in Counter(key for key, _ in values).items() if count > 1]:
        raise UserError(*(coded("OPT-010", f"--set {quoted(key)}: is given twice; remove one") for key in twice))
    return entries | _texts(dict(values), "--set")


def _as_entries(parsed: object, where: str) -> dict[str, str]:
    """Return the entries, with values that are not strings as JSON: the format allows only strings."""
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise UserError(coded("CFG-003", f"{where}: must be a table of names and values"))
    return _texts({key: value if isinstance(value, str) else _as_json(value, where) for key, value in parsed.items()}, where)


def _as_json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise UserError(
            coded("TOOL-009", f"{where}: has a value that cannot be written as JSON ({first_line(fault)}); write it as text")
        ) from fault


def _texts(entries: dict[str, str], where: str) -> dict[str, str]:
    """Return the entries; raises UserError for entries that a file cannot contain."""
    if odd := [key for key, value in entries.items() if not is_text(key) or not is_text(value)]:
        shown = odd[0].encode("utf-8", "backslashreplace").decode("utf-8")
        raise UserError(
            coded(
                "TOOL-009",
                f"{where}: {shown} has half of a surrogate pair (\\ud800 to \\udfff), which is not text; write it completely, or remove it",
            )
        )
    return entries


def changed(metadata: Mapping[str, str], clear: bool, remove: Sequence[str], entries: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata after clearing, removing (`*` matches anything) and setting, in this order; UserError for missing entries."""
    remaining = {} if clear else dict(metadata)
    for pattern in remove:
        matching = fnmatch.filter(remaining, pattern)
        if not matching and not fnmatch.filter(metadata, pattern):
            raise UserError(coded("TOOL-009", f"--remove {pattern}: no entry matches; tools/show_metadata.py lists them"))
        for key in matching:
            del remaining[key]
    return {**remaining, **entries}


def check_target(save_to: Path | None) -> None:
    """Raise UserError if the name of the new file has the ending of another format, since programs would read it as that."""
    if save_to is not None and save_to.suffix.lower() in WEIGHT_SUFFIXES and save_to.suffix.lower() != ".safetensors":
        raise UserError(
            coded("TOOL-009", f"--save_to {save_to}: only a .safetensors file has metadata; use a name that ends in .safetensors")
        )


def write_metadata(file: SafetensorsFile, save_to: Path, metadata: Mapping[str, str]) -> None:
    """Write the file with other `metadata` to `save_to` (may be the file itself), completely or not at all; tensors stay bit for bit.

    A short hash for web UIs (`sshs_legacy_hash`), which depends on the `ss_` entries, is recomputed if it exists.
    """
    with open_file(file.path) as source:
        (length,) = struct.unpack("<Q", source.read(8))
        entries = parse_json(source.read(length))
    entries.pop("__metadata__", None)
    begin = 8 + length
    metadata = dict(metadata)
    if "sshs_legacy_hash" in metadata:
        legacy_hash = _legacy_hash(file.path, begin, entries, {key: value for key, value in metadata.items() if key.startswith("ss_")})
        metadata.pop("sshs_legacy_hash")
        metadata |= {"sshs_legacy_hash": legacy_hash} if legacy_hash else {}
    save_to.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(save_to) as temporary, temporary.open("wb") as target, open_file(file.path) as source:
        header = _header(entries, metadata)
        target.write(struct.pack("<Q", len(header)) + header)
        source.seek(begin)
        while piece := source.read(PIECE):
            target.write(piece)


def _header(entries: Mapping[str, object], metadata: Mapping[str, str]) -> bytes:
    """The JSON header, padded with spaces to a multiple of 8 bytes, as the format requires."""
    whole = ({"__metadata__": dict(metadata)} if metadata else {}) | dict(entries)
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return text + b" " * (-len(text) % 8)


def _legacy_hash(path: Path, begin: int, entries: Mapping[str, object], training: Mapping[str, str]) -> str | None:
    """Return the first 8 digits of the SHA-256 of 64 KiB at 1 MiB of the file with only the `training` metadata in its header.

    None if that header reaches into this range: the result would depend on the order of its entries, which is undefined.
    """
    shift = begin - 8 - len(_header(entries, training))
    if LEGACY_FROM + shift < begin:
        return None
    with open_file(path) as file:
        file.seek(LEGACY_FROM + shift)
        return hashlib.sha256(file.read(LEGACY_TO - LEGACY_FROM)).hexdigest()[:8]
