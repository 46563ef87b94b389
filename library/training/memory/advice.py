"""Suggests what to change when a run does not fit into memory: the cheapest changes that suffice, in order; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from library.training.memory.estimate import MemoryCase, estimate
from library.words import in_words

WORTH_IT = 0.01  # share of the total: smaller savings are not suggested
MARGIN = 0.95  # share of the available memory to use at most, since estimates are inexact
_EIGHT_BIT = 2.0  # bytes of state for each value
_SMALLEST = 256  # pixels per side, the least that is suggested for --resolution


@dataclass(frozen=True)
class Change:
    """What the user writes, and the resulting case; a later change of the same `kind` replaces an earlier one."""

    kind: str
    text: str
    case: MemoryCase


def changes_that_fit(case: MemoryCase, room: float) -> tuple[list[str], float]:
    """The changes, cheapest first, after which `case` fits into `room` bytes; and the bytes needed then.

    Changes that cost neither quality nor time come first, then those that cost time, then those that cost precision or size. Where all
    changes together are not enough, all that help are returned.
    """
    chosen: dict[str, str] = {}
    first = case
    while estimate(case).total > room * MARGIN and (change := _next(case, first)):
        chosen[change.kind] = change.text
        case = change.case
    return list(chosen.values()), estimate(case).total


def _next(case: MemoryCase, first: MemoryCase) -> Change | None:
    """The cheapest change of `case` that saves enough; `first` is the run as the user started it."""
    now = estimate(case).total
    for kind in _KINDS:
        for change in kind(case, first):
            if estimate(change.case).total < now * (1 - WORTH_IT):
                return change
    return None


def advice(case: MemoryCase, room: float) -> str:
    """One sentence for the user whose run did not fit into `room` bytes."""
    needed = estimate(case).total
    # the run did not fit, even if the estimate says that it does
    changes, then = changes_that_fit(case, min(room, needed))
    problem = f"about {in_words(needed)} are needed and {in_words(room)} are available"
    if not changes:
        return f"{problem}; a smaller --resolution, a LoRA instead of the whole model, or a larger device is needed"
    enough = "the cheapest changes that fit, in order" if then <= room * MARGIN else "these changes help, but are not enough"
    return f"{problem}; {enough}: {', '.join(changes)} (about {in_words(then)} then)"


def _cached(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if not case.latents_cached and not case.masks_images:
        yield Change("cache", "--cache_latents", replace(case, latents_cached=True))


def _half(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if case.compute_bytes == 4:
        vae = 2 if case.vae_bytes == case.frozen_bytes and case.counts.get("network") else case.vae_bytes
        frozen = min(case.frozen_bytes, 2)
        yield Change("half", "--mixed_precision bf16", replace(case, compute_bytes=2, frozen_bytes=frozen, vae_bytes=vae, copied_bytes=2))


def _eight_bit(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if case.optimizer_bytes > _EIGHT_BIT:
        yield Change("optimizer", "--optimizer_type AdamW8bit", replace(case, optimizer_bytes=_EIGHT_BIT))


def _checkpointing(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if not case.checkpointing:
        yield Change("checkpointing", "--gradient_checkpointing", replace(case, checkpointing=True))


def _smaller_batch(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if case.batch > 1:
        batch = case.batch // 2
        text = f"a batch of {batch} with {-(-first.batch // batch)} times the --gradient_accumulation_steps"
        yield Change("batch", text, replace(case, batch=batch))


def _sixteen_bits(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if case.trained_bytes == 4:
        text = "--full_bf16" if case.compute_bytes == 2 else "--mixed_precision bf16 with --full_bf16"
        yield Change("weights", text, replace(case, compute_bytes=2, frozen_bytes=min(case.frozen_bytes, 2), trained_bytes=2))


def _eight_bit_base(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if case.frozen_bytes >= 2 and case.counts.get("network"):
        yield Change("base", "--fp8_base", replace(case, frozen_bytes=1.05))


def _smaller_size(case: MemoryCase, first: MemoryCase) -> Iterator[Change]:
    if min(case.size) * 3 // 4 >= _SMALLEST:
        width, height = (side * 3 // 4 // 64 * 64 for side in case.size)
        yield Change("size", f"images of {width}×{height} (a lower --resolution)", replace(case, size=(width, height)))


_KINDS: tuple[Callable[[MemoryCase, MemoryCase], Iterator[Change]], ...] = (
    *(_cached, _half, _eight_bit, _checkpointing, _smaller_batch, _sixteen_bits, _eight_bit_base, _smaller_size),
)
