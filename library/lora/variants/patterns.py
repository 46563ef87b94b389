"""Ranks by pattern: `--network_args "network_reg_dims=attn2.*=16,ff=8"`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from library.errors import UserError, coded
from library.words import cut, quoted

_RANK = re.compile(r"[0-9]{1,6}")
TEXT_PATH = "text_model."  # start of text encoder names here, as in sd-scripts


@dataclass(frozen=True)
class RankPatterns:
    """Patterns of dotted module names and the rank of the modules that match; the first matching pattern wins."""

    ranks: tuple[tuple[re.Pattern[str], int], ...] = ()

    def rank(self, path: str) -> int | None:
        """Return the rank for a module; None if no pattern matches. A pattern may match any part of the name, as `attn2` does."""
        return next((rank for pattern, rank in self.ranks if pattern.search(path)), None)

    def refuse_idle(self, paths: Sequence[str]) -> None:
        """Raise UserError if a pattern matches none of these modules, since it is misspelled."""
        for pattern, rank in self.ranks:
            if not any(map(pattern.search, paths)):
                names = f"such as {paths[0]}" if paths else "none"
                shown = f"--network_args network_reg_dims={cut(pattern.pattern)}={rank}"
                raise UserError(coded("LORA-008", f"{shown}: matches no module of this network (names are {names}); correct the pattern"))


def read_patterns(text: str) -> RankPatterns:
    """Parse `pattern=rank` entries between commas; the ValueError names the invalid entry."""
    ranks = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        pattern, _, rank = entry.rpartition("=")
        if not pattern or not _RANK.fullmatch(rank.strip()):
            raise ValueError(f"{quoted(entry)} is not pattern=rank, such as attn2.*=16 (separate two of them with a comma)")
        try:
            ranks.append((re.compile(pattern.strip()), int(rank)))
        except (re.error, OverflowError, RecursionError) as fault:
            raise ValueError(f"{quoted(pattern)} is not a regular expression ({fault})") from fault
    return RankPatterns(tuple(ranks))
