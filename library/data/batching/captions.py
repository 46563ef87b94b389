"""Builds the caption of one showing: prefix and suffix, line and wildcards, dropout, token warm-up, shuffling, tag dropout.

All functions are pure. The options and their order follow `process_caption` of sd-scripts.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from library.caption_rewriting import RewriteCaption
from library.data.batching.wildcards import drawn_text, replaced
from library.data.config.blueprint import SubsetOptions
from library.data.scan.caption_files import in_order, tag_parts, with_affixes
from library.seeds import python_rng


@dataclass(frozen=True)
class Position:
    """When a showing happens: `epoch` counts from 0.

    `update` is the number of finished optimizer updates, `updates` the number of planned ones (0 = unknown).
    """

    epoch: int = 0
    update: int = 0
    updates: int = 0


def text_of_draw(caption: str, settings: SubsetOptions, seed: int, position: Position, rewrite: RewriteCaption) -> str:
    """The text of the showing with this seed: the result of `draw_caption`, rewritten by the method."""
    text = with_affixes(caption, settings)
    if settings.enable_wildcard:
        text = drawn_text(text, seed)
    text = draw_caption(text, settings, python_rng(seed, "caption"), position)
    if settings.secondary_separator:
        text = text.replace(settings.secondary_separator, settings.caption_separator)
    return rewrite(text, python_rng(seed, "rewrite"))


def longest_texts(caption: str, settings: SubsetOptions) -> list[str]:
    """All lines that a caption can produce, each with the longest part of every wildcard and with all tags."""
    text = with_affixes(caption, settings)
    lines = [replaced(line, lambda parts: max(parts, key=len)) for line in text.split("\n")] if settings.enable_wildcard else [text]
    if settings.moves_tags and settings.keep_tokens_separator:
        lines = [in_order(line, settings) for line in lines]
    if settings.secondary_separator:
        lines = [line.replace(settings.secondary_separator, settings.caption_separator) for line in lines]
    return lines


def draw_caption(caption: str, settings: SubsetOptions, rng: random.Random, position: Position) -> str:
    """The caption of one showing: '' if it is dropped, else its tags after the rules in `settings`.

    `caption_separator` separates tags. Tags outside a pair of `keep_tokens_separator` stay in place, without a pair the first
    `keep_tokens` do. The rest grows with token warm-up (which also counts the first `keep_tokens`), is shuffled and loses tags.
    A caption without any tag rule is returned unchanged.
    """
    if _dropped(settings, rng, position):
        return ""
    if not settings.moves_tags:
        return caption
    first, rest, last = tag_parts(caption, settings)
    if not (settings.keep_tokens_separator and settings.keep_tokens_separator in caption):
        tags = rest[: tags_in_warmup(len(rest), settings, position)]
        first, rest = tags[: settings.keep_tokens], tags[settings.keep_tokens :]
    else:
        rest = rest[: tags_in_warmup(len(rest), settings, position)]
    if settings.shuffle_caption:
        rng.shuffle(rest)
    if settings.caption_tag_dropout_rate:
        rest = [tag for tag in rest if rng.random() >= settings.caption_tag_dropout_rate]
    return ", ".join(first + rest + last)


def brackets_hold_commas(caption: str) -> bool:
    """Whether a pair of brackets opens in one tag and closes in another, so that moving or dropping tags would break it."""
    opened: dict[str, list[int]] = {")": [], "]": []}
    tag = 0
    signs = iter(caption)
    for sign in signs:
        if sign == "\\":
            next(signs, None)  # an escaped character is not a bracket
        elif sign == ",":
            tag += 1
        elif sign in "([":
            opened[")" if sign == "(" else "]"].append(tag)
        elif sign in opened and opened[sign] and opened[sign].pop() != tag:
            return True
    return False


def tags_in_warmup(count: int, settings: SubsetOptions, position: Position) -> int:
    """Number of tags shown out of `count`: linear from token_warmup_min at update 0 to all tags at token_warmup_step.

    A token_warmup_step below 1 is a fraction of all planned updates.
    """
    steps = settings.token_warmup_step
    if steps < 1:
        steps = math.floor(steps * position.updates)
    least = min(settings.token_warmup_min, count)
    if position.update >= steps:
        return count
    return least + math.floor(position.update * (count - least) / steps)


def _dropped(settings: SubsetOptions, rng: random.Random, position: Position) -> bool:
    every = settings.caption_dropout_every_n_epochs
    if every and (position.epoch + 1) % every == 0:
        return True
    return settings.caption_dropout_rate > 0 and rng.random() < settings.caption_dropout_rate
