"""Cached VAE output, in RAM or in files: each image is encoded once, and every showing still samples its latent distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from library.data.batching.buckets import FilledData
from library.data.pixels.latent_files import read_latents
from library.data.pixels.latent_plan import Kept
from library.errors import Problem, UserError, coded
from library.options.bounds import PIXELS_OF_A_LATENT
from library.seeds import fold, python_rng


def draw_latents(moments: Tensor, seeds: Sequence[int] | Tensor) -> Tensor:
    """z = mean + exp(½·logvar)·ε with ε from fold(seed, "vae") per image (Kingma & Welling 2013, eq. 9).

    `moments` [B,8,h,w] on any device, `seeds` [B]; returns [B,4,h,w] on the same device. ε is generated on the CPU, so it is the same for
    all devices. Means without log variances [B,4,h,w] are returned unchanged.
    """
    if moments.shape[1] == 4:
        return moments
    mean, log_variance = moments.chunk(2, dim=1)
    # page-locked for a copy to a GPU, so that the CPU does not wait for pending GPU work
    noise = torch.empty(mean.shape, dtype=torch.float32, pin_memory=mean.device.type == "cuda")
    for row, seed in zip(noise, seeds, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(fold(int(seed), "vae")))
    deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
    return mean + deviation * noise.to(mean.device, mean.dtype, non_blocking=True)


@dataclass(frozen=True)
class Held:
    """Latents in memory, float32 [8,h,w] or [4,h,w], of the image and its mirror image.

    `refused` is the folder or file that could not be written, and why; empty if they were meant to be in memory.
    """

    moments: np.ndarray
    mirrored: np.ndarray | None
    refused: str = ""


class LatentCache:
    """Moments of every image's centre crop, and of its mirror image with flip_aug; float32. Picklable."""

    def __init__(
        self,
        filled: FilledData,
        of_record: Sequence[int],
        places: Mapping[int, Kept | Held],
        unreadable: Mapping[int, Problem],
        distribution: bool = True,
    ) -> None:
        """`of_record`: index of each record's latents; `places`: where they are; `unreadable`: why they are missing.

        Without `distribution`, every showing of an image uses its mean.
        """
        self._filled, self._of_record, self._distribution = filled, of_record, distribution
        self._places, self._unreadable = places, unreadable

    @property
    def in_memory(self) -> bool:
        """Whether any latents are in memory instead of in files."""
        return any(isinstance(place, Held) for place in self._places.values())

    @property
    def refused(self) -> list[str]:
        """Folders and files that could not be written, each with the reason; their latents are in memory."""
        return list(dict.fromkeys(place.refused for place in self._places.values() if isinstance(place, Held) and place.refused))

    def has(self, record: int) -> bool:
        """Whether the record has latents, so its image was readable."""
        return self._of_record[record] not in self._unreadable

    @property
    def unreadable(self) -> tuple[Problem, ...]:
        """One line for each image that could not be read for encoding."""
        return tuple(self._unreadable.values())

    def flipped(self, record: int, seed: int) -> bool:
        """Whether the showing with this seed is mirrored: with flip_aug, and for prepared latents that have a mirror image."""
        place = self._places.get(self._of_record[record])
        beforehand = isinstance(place, Kept) and place.prepared and place.mirrored and self._filled.records[record].train_resolution
        return bool(self._filled.records[record].subset.flip_aug or beforehand) and python_rng(seed, "flip").random() < 0.5

    def latents(self, record: int, seed: int) -> Tensor:
        """Unscaled latents [4,h,w] of `record` with this seed, on the CPU. Raises UserError if they are missing or unreadable."""
        moments = torch.from_numpy(self._moments(record, self.flipped(record, seed)))
        return draw_latents((moments if self._distribution else moments[:4])[None], [seed])[0]

    def _moments(self, record: int, flip: bool) -> np.ndarray:
        number = self._of_record[record]
        if number in self._unreadable:
            raise UserError(self._unreadable[number])
        place = self._places[number]
        if isinstance(place, Held):
            moments = place.mirrored if flip else place.moments
            assert moments is not None
            return moments
        try:
            moments = read_latents(place.file, flip)
        except (OSError, ValueError) as fault:
            raise UserError(
                coded("DATA-015", f"latents {place.file}: cannot be read ({fault}); delete the file, and the next start encodes it again")
            ) from None
        width, height = self._filled.placements[record].bucket
        if moments.shape[1:] != (height // PIXELS_OF_A_LATENT, width // PIXELS_OF_A_LATENT):
            raise UserError(
                coded("DATA-015", f"latents {place.file}: have changed size since the start of the run; do not change them while training")
            )
        return moments
