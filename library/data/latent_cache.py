"""VAE output kept in RAM: each image is encoded once, and every draw still takes a new sample of its latent distribution."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from library.data.batch import Batch
from library.data.buckets import FilledData
from library.data.images import flipped, load_image
from library.errors import UserError
from library.seeds import fold

_AHEAD = 4  # batches
Encode = Callable[[Tensor], Tensor]  # images [B,3,H,W] in −1..1 -> moments [B,8,H/8,W/8]: mean and log variance, unscaled
Entry = tuple[int, bool]  # index into FilledData.records, flipped
Gather = Callable[[Mapping[Entry, Tensor]], Iterable[Mapping[Entry, Tensor]]]  # this process's part -> the parts of all processes


def draw_latents(moments: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
    """z = mean + exp(½·logvar)·ε with ε from fold(seed, "vae") for each image (Kingma & Welling 2013, eq. 9).

    `moments` [B,8,h,w] on any device, `seeds` [B]; returns [B,4,h,w] there. ε is drawn on the CPU: the same on every device.
    """
    mean, log_variance = moments.chunk(2, dim=1)
    noise = torch.stack(
        [
            torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(fold(int(seed), "vae")), dtype=torch.float32)
            for seed in seeds
        ]
    )
    deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
    return mean + deviation * noise.to(mean.device, mean.dtype)


class LatentCache:
    """The moments of every image's centre crop, of its mirror image too where flip_aug is set; float32 on the CPU."""

    def __init__(self, filled: FilledData, moments: Mapping[Entry, Tensor]) -> None:
        self._filled, self._moments = filled, dict(moments)

    @classmethod
    def build(
        cls,
        filled: FilledData,
        encode: Encode,
        batch_size: int = 1,
        progress: Callable[..., Any] | None = None,
        process: int = 0,
        processes: int = 1,
        gather: Gather | None = None,
    ) -> LatentCache:
        """Encode all images, `batch_size` of one size at a time. `progress(total=images)` makes a bar with `update(n)` and `close()`.

        With `gather` each of `processes` encodes its part and they exchange them; without it every process encodes everything.
        Raises UserError for an image that cannot be read, or for which the VAE gives no finite numbers.
        """
        batches = list(_batches(filled, batch_size))
        if gather is not None:
            batches = batches[process::processes]
        moments: dict[Entry, Tensor] = {}
        bar = progress(total=sum(map(len, batches))) if progress else None
        for batch, images in _loaded(filled, batches):
            encoded = encode(images).detach().to("cpu", torch.float32)
            _check(filled, batch, encoded)
            moments |= {entry: one.clone() for entry, one in zip(batch, encoded, strict=True)}
            if bar is not None:
                bar.update(len(batch))
        if bar is not None:
            bar.close()
        for part in gather(moments) if gather else ():
            moments |= part
        return cls(filled, moments)

    def latents(self, records: Sequence[int], flips: Sequence[bool], seeds: Sequence[int] | Tensor) -> Tensor:
        """Latents [B,4,h,w] of one draw of each record, unscaled, on the CPU."""
        moments = torch.stack([self._moments[record, flip] for record, flip in zip(records, flips, strict=True)])
        return draw_latents(moments, seeds)

    def attach(self, batch: Batch) -> Batch:
        """The batch with `latents` set: flips and samples as its seeds say."""
        seeds = batch.seeds.tolist()
        flips = [flipped(self._filled.records[record].subset, seed) for record, seed in zip(batch.records, seeds, strict=True)]
        return replace(batch, latents=self.latents(batch.records, flips, seeds))


def _batches(filled: FilledData, batch_size: int) -> Iterator[list[Entry]]:
    by_size: dict[tuple[int, int], list[Entry]] = {}
    for index, (record, placement) in enumerate(zip(filled.records, filled.placements, strict=True)):
        entries = by_size.setdefault(placement.bucket, [])
        entries += [(index, False), (index, True)] if record.subset.flip_aug else [(index, False)]
    for _, entries in sorted(by_size.items(), reverse=True):  # the largest first: what does not fit into memory shows at once
        for begin in range(0, len(entries), batch_size):
            yield entries[begin : begin + batch_size]


def _loaded(filled: FilledData, batches: list[list[Entry]]) -> Iterator[tuple[list[Entry], Tensor]]:
    """The batches with their images, a few of them read ahead by threads while the VAE works."""
    with ThreadPoolExecutor(max_workers=_AHEAD) as pool:
        coming: deque[Future[Tensor]] = deque(pool.submit(_load, filled, batch) for batch in batches[:_AHEAD])
        for number, batch in enumerate(batches):
            images = coming.popleft().result()
            coming.extend(pool.submit(_load, filled, one) for one in batches[number + _AHEAD : number + _AHEAD + 1])
            yield batch, images


def _load(filled: FilledData, batch: list[Entry]) -> Tensor:
    images = [torch.from_numpy(load_image(filled.records[index], filled.placements[index], None)) for index, _ in batch]
    return torch.stack([image.flip(2) if flip else image for image, (_, flip) in zip(images, batch, strict=True)])


def _check(filled: FilledData, batch: list[Entry], encoded: Tensor) -> None:
    bad = [str(filled.records[index].path) for (index, _), one in zip(batch, encoded, strict=True) if not one.isfinite().all()]
    if bad:
        raise UserError(f"the VAE gives no finite numbers for {', '.join(bad)}; use --mixed_precision bf16 or no, or another --vae")
