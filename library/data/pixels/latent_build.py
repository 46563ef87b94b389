"""Fills the latent cache: threads decode images ahead and write results, while the VAE encodes batches of one size."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from library.console import log
from library.data.batching.buckets import FilledData
from library.data.config.blueprint import Size
from library.data.pixels.device_copies import FromDevice
from library.data.pixels.images import BACKGROUND, load_image
from library.data.pixels.latent_cache import Held, LatentCache
from library.data.pixels.latent_files import Binding, Stat, moments_arrays, reliable, stat_of, write_latents
from library.data.pixels.latent_plan import CacheRules, Folders, Kept, Work, interpolation_of, judge, works_of
from library.errors import Problem, UserError, coded
from library.files import is_full, is_image, sha256
from library.words import counted, named

Encode = Callable[[Tensor], Tensor]  # images [B,3,H,W] in −1..1 -> moments [B,8,H/8,W/8]: mean and log variance, unscaled
Gather = Callable[[Any], Sequence[Any]]  # value of this process -> values of all processes
_WRITERS = 2
_MOST_WAITING = 32  # entries waiting to be written


@dataclass
class _Part:
    """Results of one process, by index of the work."""

    places: dict[int, Kept | Held] = field(default_factory=dict)
    unreadable: dict[int, Problem] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # folder, or file -> why it cannot be written
    full: bool = False  # whether a disk was full


@dataclass
class LatentSource:
    """The latents of a run and their state before encoding, identical in all processes."""

    filled: FilledData
    rules: CacheRules
    works: list[Work]
    of_record: list[int]
    verdicts: dict[int, Kept | str]

    @property
    def missing(self) -> list[int]:
        """Indices of the works that have to be encoded."""
        return [number for number, verdict in sorted(self.verdicts.items()) if isinstance(verdict, str)]

    def without_image(self) -> list[Problem]:
        """Errors for images that are missing and whose latents do not match."""
        lost = [number for number in self.missing if not is_image(self._path(number))]
        return [
            coded("DATA-016", f"{self._path(number)}: its image is missing, and its latents do not match ({self.verdicts[number]})")
            for number in lost
        ]

    def _path(self, number: int) -> Path:
        return self.filled.records[self.works[number].record].path


def look(filled: FilledData, rules: CacheRules, process: int = 0, processes: int = 1, gather: Gather | None = None) -> LatentSource:
    """Find usable cached latents; each of `processes` checks its part, and `gather` exchanges the results."""
    works, of_record = works_of(filled, rules)
    folders = Folders()
    numbers = range(process, len(works), processes) if gather else range(len(works))
    mine = {number: judge(works[number], filled.records[works[number].record], rules, folders) for number in numbers}
    if process == 0:
        folders.clear_left_overs()
    verdicts: dict[int, Kept | str] = {}
    for part in gather(mine) if gather else [mine]:
        verdicts |= part
    return LatentSource(filled, rules, works, of_record, verdicts)


def build(
    source: LatentSource,
    encode: Encode,
    batch_size: int = 1,
    threads: int = 4,
    progress: Callable[..., Any] | None = None,
    process: int = 0,
    processes: int = 1,
    gather: Gather | None = None,
    on_disk_only: bool = False,
) -> LatentCache:
    """Encode missing latents, `batch_size` images of one size at a time. `progress(total=images)` creates a bar with `update` and `close`.

    With `gather`, each of `processes` encodes its part and they exchange what is in memory; without it, this process encodes everything.
    `LatentCache.unreadable` lists skipped images; latents of files that cannot be written stay in memory. With `on_disk_only` a full disk
    ends the encoding, because latents in memory would be lost. Raises UserError if the VAE returns numbers that are not finite.
    """
    if lost := source.without_image():
        more = len(lost) - 20
        raise UserError(*lost[:20], *([coded("DATA-016", f"… and {more} more like these")] if more > 0 else []))
    missing = sorted(source.missing, key=lambda number: _by_area(source.works[number].placement.bucket), reverse=True)
    if gather is not None:
        missing = missing[process::processes]
    part = _Part()
    if missing:
        bar = progress(total=sum(1 + source.works[number].flip for number in missing)) if progress else None
        with _Writers(source, part) as writers:
            for loaded, moments in _encoded(source, missing, encode, batch_size, threads, part, bar.update if bar is not None else _no_bar):
                writers.put(loaded, moments)
                if on_disk_only and part.full:
                    break
        if bar is not None:
            bar.close()
    whole = _Part({number: verdict for number, verdict in source.verdicts.items() if isinstance(verdict, Kept)})
    for one in gather(part) if gather else [part]:
        whole.places |= one.places
        whole.unreadable |= one.unreadable
        whole.refused |= one.refused
    if not on_disk_only:
        _tell_refused(whole)
    return LatentCache(source.filled, source.of_record, whole.places, whole.unreadable, source.rules.distribution)


def _tell_refused(whole: _Part) -> None:
    if whole.refused:
        held = sum(isinstance(place, Held) for place in whole.places.values())
        log.warning(
            "the latents of %s are kept in memory only, since they cannot be written to %s; the next run encodes them again",
            counted(held, "image"),
            named([f"{folder} ({why})" for folder, why in whole.refused.items()], 3),
        )


@dataclass(frozen=True)
class _Loaded:
    """Pixels of a work, float32 [3,H,W], with hash and stat of the image file."""

    number: int
    pixels: Tensor
    image: str
    stat: Stat | None


def _no_bar(images: int) -> None:
    """Ignores progress if there is no bar."""


def _encoded(
    source: LatentSource, missing: list[int], encode: Encode, batch_size: int, threads: int, part: _Part, advance: Callable[[int], object]
) -> Iterator[tuple[_Loaded, list[np.ndarray]]]:
    """Yield each work with its moments, one or two arrays [8,h,w].

    A few batches are read ahead while the VAE works; on a GPU the next batch is submitted before waiting for the moments of this one.
    """
    chunks = list(_chunks(source, missing, batch_size))
    under_way: tuple[list[_Loaded], list[FromDevice], int] | None = None
    with ThreadPoolExecutor(max_workers=threads) as pool:
        coming: deque[Future[list[_Loaded]]] = deque(pool.submit(_load, source, chunk, part) for chunk in chunks[: threads + 1])
        for number, chunk in enumerate(chunks):
            loaded = coming.popleft().result()
            coming.extend(pool.submit(_load, source, one, part) for one in chunks[number + threads + 1 : number + threads + 2])
            shown = [view for one in loaded for view in _views(one.pixels, source.works[one.number].flip)]
            moments = [FromDevice(encode(torch.stack(shown[at : at + batch_size])).detach()) for at in range(0, len(shown), batch_size)]
            if under_way is not None:
                yield from _arrived(source, *under_way, advance)
            under_way = loaded, moments, sum(1 + source.works[one].flip for one in chunk)
        if under_way is not None:
            yield from _arrived(source, *under_way, advance)


def _arrived(
    source: LatentSource, loaded: list[_Loaded], coming: list[FromDevice], images: int, advance: Callable[[int], object]
) -> Iterator[tuple[_Loaded, list[np.ndarray]]]:
    """Wait for the moments of a chunk and yield its works with them."""
    moments = [one for part in coming for one in part.wait().numpy()]
    at = 0
    for one in loaded:
        count = 1 + source.works[one.number].flip
        mine = moments[at : at + count]
        at += count
        _check(source, one.number, mine)
        yield one, [array if source.rules.distribution else array[:4] for array in mine]
    advance(images)


def _views(pixels: Tensor, flip: bool) -> list[Tensor]:
    return [pixels, pixels.flip(2)] if flip else [pixels]


def _chunks(source: LatentSource, missing: list[int], batch_size: int) -> Iterator[list[int]]:
    """Works of one size, at most `batch_size` at a time, largest size first, so that running out of memory shows immediately."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for number in missing:
        by_size.setdefault(source.works[number].placement.bucket, []).append(number)
    for _, numbers in sorted(by_size.items(), key=lambda item: _by_area(item[0]), reverse=True):
        for begin in range(0, len(numbers), batch_size):
            yield numbers[begin : begin + batch_size]


def _by_area(bucket: Size) -> tuple[int, Size]:
    return bucket[0] * bucket[1], bucket


def _load(source: LatentSource, chunk: list[int], part: _Part) -> list[_Loaded]:
    """Load the readable works of a chunk.

    The stat is taken before the hash and the hash before the pixels, so that an image that changes meanwhile never matches its cache entry.
    """
    loaded = []
    for number in chunk:
        work = source.works[number]
        record = source.filled.records[work.record]
        try:
            stat, image = (reliable(stat_of(record.path)), sha256(record.path)) if work.file else (None, "")
            pixels = load_image(record, work.placement, None)
        except UserError as fault:
            part.unreadable[number] = fault.problems[0]
        except OSError as fault:
            part.unreadable[number] = coded("DATA-001", f"image {record.path}: cannot be read ({fault}); remove or replace it")
        else:
            loaded.append(_Loaded(number, torch.from_numpy(pixels), image, stat))
    return loaded


def _check(source: LatentSource, number: int, moments: list[np.ndarray]) -> None:
    if not all(np.isfinite(one).all() for one in moments):
        path = source.filled.records[source.works[number].record].path
        raise UserError(
            coded(
                "DATA-019", f"the VAE produces numbers that are not finite for {path}; use --mixed_precision bf16 or no, or another --vae"
            )
        )


class _Writers:
    """Threads that write entries. If a folder cannot be written, its entries stay in memory."""

    def __init__(self, source: LatentSource, part: _Part) -> None:
        self._source, self._part = source, part
        self._pool = ThreadPoolExecutor(max_workers=_WRITERS)
        self._waiting: deque[tuple[int, Held, Future[None]]] = deque()

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        while self._waiting and kind is None:
            self._take()
        self._pool.shutdown()

    def put(self, loaded: _Loaded, moments: list[np.ndarray]) -> None:
        """Queue the moments of a work, and of its mirror image, for writing."""
        work = self._source.works[loaded.number]
        held = Held(moments[0].copy(), moments[1].copy() if work.flip else None)
        if work.file is None or str(work.file.parent) in self._part.refused:
            self._part.places[loaded.number] = held if work.file is None else self._refused(held, work.file.parent)
            return
        rules = self._source.rules
        place = work.placement
        recipe = (rules.vae, rules.precision, place.bucket, place.resized, BACKGROUND, work.flip, rules.distribution)
        record = self._source.filled.records[work.record]
        binding = Binding(loaded.image, loaded.stat, *recipe, interpolation=interpolation_of(record))
        arrays = moments_arrays(held.moments, held.mirrored, record.size, place)
        self._waiting.append((loaded.number, held, self._pool.submit(write_latents, work.file, arrays, binding)))
        while self._waiting and (len(self._waiting) > _MOST_WAITING or self._waiting[0][2].done()):
            self._take()

    def _take(self) -> None:
        number, held, written = self._waiting.popleft()
        work = self._source.works[number]
        assert work.file is not None
        try:
            written.result()
            self._part.places[number] = Kept(work.file, work.flip, bound=True)
        except OSError as fault:
            place = work.file if fault.errno == errno.ENAMETOOLONG else work.file.parent  # a long name affects only this file
            reason = "its name is too long; shorten the image's name" if place is work.file else fault.strerror or str(fault)
            self._part.refused.setdefault(str(place), reason)
            self._part.full |= is_full(fault)
            self._part.places[number] = self._refused(held, place)

    def _refused(self, held: Held, place: Path) -> Held:
        return replace(held, refused=f"{place} ({self._part.refused[str(place)]})")
