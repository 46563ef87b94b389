"""Where the batches of a run come from: the interface of images in folders and of a user's dataset class."""

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
    """`image_source.ImageSource` or `custom_dataset.CustomDataset`. Their modules import no torch; `dataset` does."""

    unit: str  # what the sampler counts: "images" or "batches"
    captions_are_whole: bool  # `trained_captions` are those of the whole run, not only of its start
    ids_follow_captions: bool  # a caption always has the same token ids

    @property
    def are_latents(self) -> bool:
        """Whether batches contain latents, so that no VAE is needed."""

    def lines(self, processes: int) -> list[str]:
        """What was found, as lines for the user."""

    def captions(self) -> Iterable[str]:
        """The captions that are known in advance, including those of regularization images."""

    def trained_captions(self) -> list[tuple[str, str]]:
        """(image or batch, caption) of those known in advance, without regularization images."""

    def largest(self) -> tuple[tuple[int, int], int]:
        """Size (width, height in pixels) and images per process of the batch with the most pixels, among those known in advance."""

    def rows(self) -> Mapping[Size, int] | None:
        """Most images per process in one batch, by size in pixels; None where it is not known in advance."""

    def files(self) -> Sequence[Path]:
        """The image files, each once."""

    def metadata(self, processes: int) -> dict[str, Any]:
        """The `ss_*` keys about the data."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the data."""

    def cacheable(self) -> FilledData | None:
        """The images whose latents may be cached; None where a class brings its batches."""

    def dataset(
        self, seed: int, tokenizer: Tokenize, scale: float, rewrite: RewriteCaption, plan: RunPlan, cache: LatentCache | None = None
    ) -> TrainingDataset | CustomBatchDataset:
        """The dataset that loader workers read batches from; `seed` is the run's, `scale` the factor on latents in training."""

    def check_loading(self, workers: int, gather: Callable[[list[int]], list[int]]) -> None:
        """Raise UserError for what `workers` or other processes cannot load; `gather` collects the answers of all processes."""
