"""The names in `foreign_keys.json`: options of sd-scripts' other scripts and of front-ends, without effect here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from library.parsing.json_text import parse_json
from library.paths.opening import read_text


class _Kind(TypedDict):
    whose: str
    why: str
    keys: list[str]


class _File(TypedDict):
    options: list[_Kind]
    datasets: list[_Kind]
    here: dict[str, str]


@dataclass(frozen=True)
class ForeignKey:
    """Where a key comes from and why it has no effect here."""

    whose: str
    why: str

    @property
    def reason(self) -> str:
        """Both in a few words: `kohya_ss (the GUI's own setting)`."""
        return f"{self.whose} ({self.why})"


def _keys(kinds: Sequence[_Kind]) -> Mapping[str, ForeignKey]:
    keys = {name.lower(): ForeignKey(kind["whose"], kind["why"]) for kind in kinds for name in kind["keys"]}
    return MappingProxyType(keys)


_TABLE: _File = parse_json(read_text(Path(__file__).with_suffix(".json"), "utf-8"))

FOREIGN = _keys(_TABLE["options"])
"""Keys of a --config_file, in lower case."""

FOREIGN_IN_DATASETS = _keys(_TABLE["datasets"])
"""Keys of an sd-scripts dataset config without effect here, in lower case."""

HERE: Mapping[str, str] = MappingProxyType(_TABLE["here"])
"""A foreign key -> the equivalent option."""
