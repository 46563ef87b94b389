"""The caption of one draw: prefix and suffix, a line and its wildcards, dropout, token warm-up, shuffling, tag dropout; pure functions.

What the options of captions do, and in which order, is what users of sd-scripts know from `process_caption` there.
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
    """Where in the run a draw stands: `epoch` from 0, `update` optimizer updates done before, `updates` planned (0 = unknown)."""

    epoch: int = 0
    update: int = 0
    updates: int = 0


def text_of_draw(caption: str, settings: SubsetOptions, seed: int, position: Position, rewrite: RewriteCaption) -> str:
    """The text that the draw with this seed is trained with: `draw_caption`'s, as the method rewrites it."""
    text = with_affixes(caption, settings)
    if settings.enable_wildcard:
        text = drawn_text(text, seed)
    text = draw_caption(text, settings, python_rng(seed, "caption"), position)
    if settings.secondary_separator:
        text = text.replace(settings.secondary_separator, settings.caption_separator)
    return rewrite(text, python_rng(seed, "rewrite"))


def longest_texts(caption: str, settings: SubsetOptions) -> list[str]:
    """Every line that draws of a caption may show, with the longest part of each wildcard and all of its tags."""
    text = with_affixes(caption, settings)
    lines = [replaced(line, lambda parts: max(parts, key=len)) for line in text.split("\n")] if settings.enable_wildcard else [text]
    if settings.moves_tags and settings.keep_tokens_separator:
        lines = [in_order(line, settings) for line in lines]
    if settings.secondary_separator:
        lines = [line.replace(settings.secondary_separator, settings.caption_separator) for line in lines]
    return lines


def draw_caption(caption: str, settings: SubsetOptions, rng: random.Random, position: Position) -> str:
    """The text to train on for this draw: '' when the caption is dropped, else its tags as `settings` treat them.

    Tags are what `caption_separator` separates. Those outside of a pair of `keep_tokens_separator` stay, else the first `keep_tokens`;
    the rest grows with token warm-up (which counts the first `keep_tokens` too), is shuffled and loses tags. A caption for which no
    tag rule is set is returned as it is.
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
    """Whether a pair of brackets begins in one tag and ends in another, so that moving or dropping tags tears it apart."""
    opened: dict[str, list[int]] = {")": [], "]": []}
    tag = 0
    signs = iter(caption)
    for sign in signs:
        if sign == "\\":
            next(signs, None)  # what follows is a plain sign
        elif sign == ",":
            tag += 1
        elif sign in "([":
            opened[")" if sign == "(" else "]"].append(tag)
        elif sign in opened and opened[sign] and opened[sign].pop() != tag:
            return True
    return False


def tags_in_warmup(count: int, settings: SubsetOptions, position: Position) -> int:
    """How many of `count` tags are shown: from token_warmup_min at update 0 in a straight line to all at token_warmup_step.

    A token_warmup_step under 1 is a share of all planned updates.
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
