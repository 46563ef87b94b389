"""What to change when a run does not fit into memory: the cheapest changes that would make it fit, in order; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from library.training.memory_estimate import GIB, MemoryCase, estimate

WORTH_IT = 0.01  # of the whole: a change that saves less is not named
MARGIN = 0.95  # of the room: an estimate is no promise
_EIGHT_BIT = 2.0  # bytes of state for each value
_SMALLEST = 256  # pixels a side that --resolution is lowered to


@dataclass(frozen=True)
class Change:
    """What the user writes, and the run that it makes of another."""

    text: str
    case: MemoryCase


def changes_that_fit(case: MemoryCase, room: float) -> tuple[list[str], float]:
    """The changes, cheapest first, after which `case` fits into `room` bytes, each with what it saves; and the bytes needed then.

    Cheap is what costs neither quality nor time, then what costs time, then what costs exactness or size. Where nothing is enough,
    all that help are given.
    """
    chosen: list[str] = []
    while estimate(case).total > room * MARGIN and (change := _next(case, chosen)):
        chosen.append(change.text)
        case = change.case
    return chosen, estimate(case).total


def _next(case: MemoryCase, done: list[str]) -> Change | None:
    now = estimate(case).total
    for kind in _KINDS:
        for change in kind(case):
            if change.text not in done and estimate(change.case).total < now * (1 - WORTH_IT):
                return change
    return None


def advice(case: MemoryCase, room: float) -> str:
    """One sentence for the user whose run did not fit into `room` bytes."""
    needed = estimate(case).total
    # it did not fit, whatever the estimate says
    changes, then = changes_that_fit(case, min(room, needed))
    told = f"about {needed / GIB:.1f} GiB are needed and {room / GIB:.1f} GiB are there"
    if not changes:
        return f"{told}; a smaller --resolution, a LoRA instead of the whole model, or a larger device is all that is left"
    enough = "the cheapest changes that fit, in order" if then <= room * MARGIN else "these changes help, but are not enough"
    return f"{told}; {enough}: {', '.join(changes)} (about {then / GIB:.1f} GiB then)"


def _cached(case: MemoryCase) -> Iterator[Change]:
    if not case.latents_cached:
        yield Change("--cache_latents", replace(case, latents_cached=True))


def _half(case: MemoryCase) -> Iterator[Change]:
    if case.compute_bytes == 4:
        vae = 2 if case.vae_bytes == case.frozen_bytes and case.counts.get("network") else case.vae_bytes
        yield Change("--mixed_precision bf16", replace(case, compute_bytes=2, frozen_bytes=min(case.frozen_bytes, 2), vae_bytes=vae))


def _eight_bit(case: MemoryCase) -> Iterator[Change]:
    if case.optimizer_bytes > _EIGHT_BIT:
        yield Change("--optimizer_type AdamW8bit", replace(case, optimizer_bytes=_EIGHT_BIT))


def _checkpointing(case: MemoryCase) -> Iterator[Change]:
    if not case.checkpointing:
        yield Change("--gradient_checkpointing", replace(case, checkpointing=True))


def _smaller_batch(case: MemoryCase) -> Iterator[Change]:
    if case.batch > 1:
        batch = case.batch // 2
        groups = -(-case.batch // batch)
        yield Change(f"a batch of {batch} with {groups} times the --gradient_accumulation_steps", replace(case, batch=batch))


def _sixteen_bits(case: MemoryCase) -> Iterator[Change]:
    if case.compute_bytes == 2 and case.trained_bytes == 4:
        yield Change("--full_bf16", replace(case, trained_bytes=2))


def _eight_bit_base(case: MemoryCase) -> Iterator[Change]:
    if case.frozen_bytes >= 2 and case.counts.get("network"):
        yield Change("--fp8_base", replace(case, frozen_bytes=1.05))


def _smaller_size(case: MemoryCase) -> Iterator[Change]:
    if min(case.size) * 3 // 4 >= _SMALLEST:
        width, height = (side * 3 // 4 // 64 * 64 for side in case.size)
        yield Change(f"images of {width}×{height} (a lower --resolution)", replace(case, size=(width, height)))


_KINDS: tuple[Callable[[MemoryCase], Iterator[Change]], ...] = (
    *(_cached, _half, _eight_bit, _checkpointing, _smaller_batch, _sixteen_bits, _eight_bit_base, _smaller_size),
)
