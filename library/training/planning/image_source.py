"""The images of a dataset config or of folders as the source of a run's batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import FilledData
from library.data.batching.captions import longest_texts
from library.data.batching.prior_draws import longest_prompts
from library.data.config.blueprint import Size, SubsetOptions
from library.data.scan.caption_files import with_affixes
from library.training.planning.data_facts import data_metadata
from library.training.planning.plan import RunPlan
from library.training.planning.prior_plan import subset_words
from library.words import counted

if TYPE_CHECKING:
    from library.data.loading.dataset import Tokenize, TrainingDataset
    from library.data.pixels.latent_cache import LatentCache


@dataclass(frozen=True)
class ImageSource:
    """Images in buckets."""

    data: FilledData
    unit = "images"
    are_latents = False
    captions_are_whole = True
    ids_follow_captions = True

    def lines(self, processes: int) -> list[str]:
        """Images, regularization and buckets of each dataset."""
        lines: list[str] = []
        for number, figures in enumerate(self.data.figures):
            spec = self.data.blueprint.datasets[number]
            width, height = spec.options.resolution
            title = f"dataset {number + 1}: " if len(self.data.figures) > 1 else ""
            sizes = "sizes as prepared" if all(subset.as_prepared for subset in spec.subsets) else f"{width}×{height}"
            images = counted(figures.images, "image")
            lines.append(f"{title}{sizes}, batch size {figures.batch_size}: {images}, {figures.shown} per epoch with repeats")
            lines += (f"    {self._subset_line(subset)}" for subset in spec.subsets)
            if figures.reg_images:
                left = f", {figures.reg_left_over} unused per epoch" if figures.reg_left_over else ""
                shown = f"{counted(figures.reg_images, 'image')}, {figures.reg_shown} per epoch to match the train images{left}"
                lines.append(f"    regularization: {shown}")
            for size, count in figures.buckets:
                batches = -(-count // (figures.batch_size * processes))
                lines.append(f"    bucket {size[0]}×{size[1]}: {count} per epoch, {counted(batches, 'batch', 'batches')}")
        if self.data.prior_from_base is not None:
            lines.append(f"base model's prediction as target: loss × {self.data.prior_from_base:g} (--prior_from_base)")
        converted = len({record.path for record in self.data.records if record.converted})
        if converted:
            lines.append(f"colour profiles converted: {converted} (to sRGB)")
        return lines

    def captions(self) -> Iterator[str]:
        """Every text that an image's caption may become, with all of its tags."""
        for record in self.data.records:
            yield from longest_texts(record.caption, record.subset)
        if self.data.prior_from_base is not None:
            yield from dict.fromkeys(prompt for subset in self.data.images_of for prompt in longest_prompts(subset))

    def trained_captions(self) -> list[tuple[str, str]]:
        """(file name, caption) of all train images."""
        return [(record.path.name, with_affixes(record.caption, record.subset)) for record in self.data.records if not record.subset.is_reg]

    def largest(self) -> tuple[tuple[int, int], int]:
        """Size and number of images of the batch with the most pixels."""
        _, size, batch = max((size[0] * size[1] * batch, size, batch) for size, batch in self.rows().items())
        return size, batch

    def rows(self) -> dict[Size, int]:
        """Most images per process in one batch, by size; datasets with buckets of the same size may have different batch sizes."""
        most: dict[Size, int] = {}
        for bucket in self.data.buckets:
            batch = min(self.data.blueprint.datasets[bucket.dataset].options.batch_size, bucket.count)
            most[bucket.size] = max(most.get(bucket.size, 0), batch)
        return most

    def files(self) -> Sequence[Path]:
        """The image files, each once."""
        return list(dict.fromkeys(record.path for record in self.data.records))

    def metadata(self, processes: int) -> dict[str, Any]:
        """The `ss_*` keys about images, captions and buckets."""
        return data_metadata(self.data, processes)

    def facts(self) -> dict[str, Any]:
        """How many images there are, and their folders."""
        return {
            "images": len(self.data.records),
            "shown_an_epoch": sum(figures.shown + figures.reg_shown for figures in self.data.figures),
            "folders": sorted({os.fspath(record.path.parent) for record in self.data.records}),
        }

    def cacheable(self) -> FilledData:
        """All images."""
        return self.data

    def dataset(
        self, seed: int, tokenizer: Tokenize, scale: float, rewrite: RewriteCaption, plan: RunPlan, cache: LatentCache | None = None
    ) -> TrainingDataset:
        """Batches of latents where `cache` has them, otherwise of images; the requests bring their seeds."""
        from library.data.loading.dataset import PlannedUpdates, TrainingDataset

        return TrainingDataset(self.data, tokenizer, rewrite, PlannedUpdates(plan.updates, plan.accumulation), cache)

    def check_loading(self, workers: int, gather: Callable[[list[int]], list[int]]) -> None:
        """Does nothing: images can be loaded in any process."""

    def _masks_line(self, subset: SubsetOptions) -> str:
        mine = [record for record in self.data.records if record.subset is subset]
        masked = any(record.mask for record in mine)
        loss = f", masks from {subset.conditioning_data_dir}" if masked else ", transparency as mask" if subset.alpha_mask else ""
        if not self.data.blueprint.inpainting:
            return loss
        files = any(record.fill_mask for record in mine)
        return f"{loss}, inpainting: {f'the masks of {subset.conditioning_data_dir}' if files else 'random masks, new each time'}"

    def _subset_line(self, subset: SubsetOptions) -> str:
        count = self.data.images_of.get(subset, 0)
        kind = "regularization, " if subset.is_reg else ""
        words = f", class tokens “{subset.class_tokens}”" if subset.class_tokens else ""
        masks = self._masks_line(subset)
        weight = f", loss × {subset.loss_weight:g}" if subset.loss_weight != 1 else ""
        place = subset.image_dir or subset.metadata_file
        file = subset.metadata_file if subset.as_prepared else None
        prepared = f", buckets and latents as prepared (train_resolution in {file.name})" if file else ""
        prior = "" if self.data.prior_from_base is None else subset_words(subset)
        return f"{place}: {kind}{counted(count, 'image')} × {counted(subset.num_repeats, 'repeat')}{words}{masks}{weight}{prepared}{prior}"
