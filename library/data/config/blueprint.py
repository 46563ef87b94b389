"""What to train on and by which rules: the values every later step reads, and how a --dataset_config file becomes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Size = tuple[int, int]  # (width, height) in pixels


DREAMBOOTH = "dreambooth"
METADATA = "metadata"


@dataclass(frozen=True)
class SubsetOptions:
    """One folder of images (or one metadata file) and how its images and captions are treated."""

    image_dir: Path | None = None
    metadata_file: Path | None = None
    class_tokens: str | None = None
    is_reg: bool = False
    num_repeats: int = 1
    shuffle_caption: bool = False
    keep_tokens: int = 0  # comma-separated tags
    caption_extension: str = ".caption"
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1  # tags
    token_warmup_step: float = 0.0  # updates; under 1: share of all updates
    flip_aug: bool = False
    color_aug: bool = False
    random_crop: bool = False
    face_crop_aug_range: tuple[float, float] | None = None  # crop side ÷ face side
    loss_weight: float = 1.0  # factor of the loss of each of its images
    conditioning_data_dir: Path | None = None  # mask images, for --masked_loss
    alpha_mask: bool = False
    validation_split: float = 0.0  # share of its images that is kept for validation; 1: all
    validation_seed: int = 0
    place: str = ""  # where the user wrote it: 'x.toml: datasets[0].subsets[1]' or '--train_data_dir'


@dataclass(frozen=True)
class DatasetOptions:
    """The sizes and the batch that the subsets of one dataset share."""

    resolution: tuple[int, int]  # (width, height) in pixels
    batch_size: int = 1
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    as_prepared: bool = False  # each image at its metadata's train_resolution; `resolution` is then the largest of them


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset: its options and its subsets, all of one form."""

    options: DatasetOptions
    subsets: tuple[SubsetOptions, ...]

    @property
    def form(self) -> str:
        """METADATA when captions come from metadata files, else DREAMBOOTH."""
        return METADATA if self.subsets[0].metadata_file else DREAMBOOTH


@dataclass(frozen=True)
class DatasetBlueprint:
    """All datasets of a run; `findings` are lines worth telling that stop nothing."""

    datasets: tuple[DatasetSpec, ...]
    findings: tuple[str, ...] = ()

    def subsets(self) -> list[SubsetOptions]:
        """The subsets of all datasets in order."""
        return [subset for dataset in self.datasets for subset in dataset.subsets]


def check_caching(blueprint: DatasetBlueprint) -> list[str]:
    """The faults that stand in the way of latent caching, one line each: everything that changes pixels from draw to draw."""
    reasons = {
        "color_aug": "changes the colours of each draw",
        "random_crop": "cuts each draw elsewhere",
        "face_crop_aug_range": "cuts each draw elsewhere",
    }
    return [
        f"{subset.place}: {key} {reason}, so latents cannot be cached; remove {key} or --cache_latents (flip_aug works with caching)"
        for subset in blueprint.subsets()
        for key, reason in reasons.items()
        if getattr(subset, key)
    ]
