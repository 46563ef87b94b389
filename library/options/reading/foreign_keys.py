"""The names of `foreign_keys.toml`: what sd-scripts' other scripts and the front-ends write that has no effect here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict, cast

import toml

_FILE = Path(__file__).with_suffix(".toml")


class _Table(TypedDict):
    whose: str
    why: str
    keys: list[str]


@dataclass(frozen=True)
class ForeignKey:
    """Whose key it is and why it has no effect here."""

    whose: str
    why: str

    @property
    def reason(self) -> str:
        """Both in a few words: `kohya_ss (the GUI's own setting)`."""
        return f"{self.whose} ({self.why})"


def _keys(tables: Mapping[str, _Table]) -> Iterator[tuple[str, ForeignKey]]:
    for table in tables.values():
        key = ForeignKey(table["whose"], table["why"])
        yield from ((name.lower(), key) for name in table["keys"])


_TREE = toml.loads(_FILE.read_text(encoding="utf-8"))

HERE: Mapping[str, str] = MappingProxyType(cast(dict[str, str], _TREE.pop("here")))
"""A foreign key -> the option that says the same."""

FOREIGN_IN_DATASETS: Mapping[str, ForeignKey] = MappingProxyType(dict(_keys({"dataset": cast(_Table, _TREE.pop("dataset"))})))
"""Keys of a dataset config that sd-scripts takes and that have no effect here, in small letters."""

FOREIGN: Mapping[str, ForeignKey] = MappingProxyType(dict(_keys(cast(dict[str, _Table], _TREE))))
"""Keys of a --config_file, in small letters."""
