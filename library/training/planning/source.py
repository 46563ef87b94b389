"""Where the batches of a run come from: what images in folders and a class of the user's own both answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import FilledData
from library.data.config.blueprint import Size
from library.training.planning.plan import RunPlan

if TYPE_CHECKING:
    from library.data.loading.custom_batches import CustomBatchDataset
    from library.data.loading.dataset import Tokenize, TrainingDataset
    from library.data.pixels.latent_cache import LatentCache


class Source(Protocol):
    """`image_source.ImageSource` or `custom_dataset.CustomDataset`. Its modules are read before torch; torch comes with `dataset`."""

    unit: str  # what the sampler counts: "images" or "batches"
    captions_are_whole: bool  # `trained_captions` are those of the whole run, not of its beginning
    ids_follow_captions: bool  # one caption has the same token ids wherever it stands

    @property
    def are_latents(self) -> bool:
        """Whether batches come with latents, without a VAE."""

    def lines(self, processes: int) -> list[str]:
        """What was found, for people."""

    def captions(self) -> Iterable[str]:
        """The captions that are known beforehand, of regularization images too."""

    def trained_captions(self) -> list[tuple[str, str]]:
        """(image or batch, caption) of those known beforehand, without regularization images."""

    def largest(self) -> tuple[tuple[int, int], int]:
        """Size (width, height in pixels) and images a process of the batch with most pixels, as far as it is known beforehand."""

    def rows(self) -> Mapping[Size, int] | None:
        """Images a process at most in one batch, by size in pixels; None where it is not known beforehand."""

    def files(self) -> Sequence[Path]:
        """The image files, each once."""

    def metadata(self, processes: int) -> dict[str, Any]:
        """The `ss_*` keys about the data."""

    def facts(self) -> dict[str, Any]:
        """What the manifest tells of it."""

    def cacheable(self) -> FilledData | None:
        """The images whose latents may be kept for the run; None where a class brings its batches itself."""

    def dataset(
        self, seed: int, tokenizer: Tokenize, scale: float, rewrite: RewriteCaption, plan: RunPlan, cache: LatentCache | None = None
    ) -> TrainingDataset | CustomBatchDataset:
        """What loader workers ask for batches; `seed` is the run's, `scale` what latents are multiplied by in training."""

    def check_loading(self, workers: int, gather: Callable[[list[int]], list[int]]) -> None:
        """Raise UserError for what `workers` or other processes, whose answers `gather` brings together, cannot load."""
