"""A file's metadata, readable for people with training entries expanded, and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod

from library.containers.weights_file import SafetensorsFile
from library.parsing.json_text import parse_json
from library.words import counted, verb

TAGS_SHOWN = 20
WIDTH = 30  # of the names


def as_json(metadata: Mapping[str, str], encoding: str | None = "utf-8") -> str:
    """Return the entries unchanged, sorted; for an output `encoding` other than UTF-8 in ASCII only, so that it stays valid JSON."""
    plain = (encoding or "").lower().replace("-", "").replace("_", "") != "utf8"
    return json.dumps(dict(sorted(metadata.items())), indent=2, ensure_ascii=plain)


def page(file: SafetensorsFile) -> str:
    """Show what the file contains, then its entries in groups: training (`ss_`), hashes (`sshs_`), model card (`modelspec.`), others."""
    dtypes = Counter(info.dtype for info in file.infos.values())
    numbers = sum(prod(info.shape) for info in file.infos.values())
    kinds = ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common())
    lines = [
        f"{file.path.name}: {counted(len(file.infos), 'tensor')} ({kinds}), {numbers:,} {verb(numbers, 'number', 'numbers')}, "
        f"{file.path.stat().st_size:,} bytes"
    ]
    groups: dict[str, list[str]] = {}
    for key in sorted(file.metadata):
        groups.setdefault(_group(key), []).append(key)
    for title in ("model card", "training", "hashes", "other"):
        for place, key in enumerate(groups.get(title, ())):
            lines += ["", f"{title}:"] if place == 0 else []
            lines += _entry(key, file.metadata[key])
    return "\n".join(lines if file.metadata else [*lines, "", "it has no metadata"])


def _group(key: str) -> str:
    heads = {"ss_": "training", "sshs_": "hashes", "modelspec.": "model card"}
    return next((title for head, title in heads.items() if key.startswith(head)), "other")


def _entry(key: str, text: str) -> Iterator[str]:
    value = _unfolded(text)
    if key == "ss_tag_frequency" and isinstance(value, dict):
        yield f"  {key}:"
        for folder, tags in value.items():
            counts = tags.items() if isinstance(tags, dict) else ()
            known = sorted((item for item in counts if isinstance(item[1], int | float)), key=lambda item: -item[1])
            shown = ", ".join(f"{tag} {count}" for tag, count in known[:TAGS_SHOWN])
            yield f"    {folder}: {shown}" + (f" … and {len(known) - TAGS_SHOWN} more" if len(known) > TAGS_SHOWN else "")
    elif isinstance(value, dict | list) and value:
        yield f"  {key}:"
        yield from (f"    {line}" for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines())
    else:
        yield f"  {key + ':':{WIDTH}} {text}"


def _unfolded(text: str) -> object:
    """Parse a value that is JSON in a string; returns the string itself if it is no JSON that can be shown."""
    if text[:1] not in "{[":
        return text
    try:
        value = parse_json(text)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError:
        return text
    return value
