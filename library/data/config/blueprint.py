"""Datasets and subsets of a run with all their options. Defaults are those of the command-line options of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from library.errors import Problem, coded
from library.options.groups.data import CaptionDropoutOptions, DataOptions, MetadataOptions, PriorOptions
from library.options.groups.validation import ValidationOptions

Size = tuple[int, int]  # (width, height) in pixels
AS_PREPARED: Size = (0, 0)  # resolution of a dataset whose metadata decides the sizes; the scan puts the largest size here


DREAMBOOTH = "dreambooth"
METADATA = "metadata"


@dataclass(frozen=True)
class SubsetOptions:
    """One folder of images (or one metadata file) and how its images and captions are treated."""

    image_dir: Path | None = None
    metadata_file: Path | None = None
    class_tokens: str | None = None
    is_reg: bool = False
    num_repeats: int = MetadataOptions.dataset_repeats
    shuffle_caption: bool = DataOptions.shuffle_caption
    keep_tokens: int = DataOptions.keep_tokens  # number of comma-separated tags
    caption_extension: str = DataOptions.caption_extension
    caption_prefix: str | None = DataOptions.caption_prefix
    caption_suffix: str | None = DataOptions.caption_suffix
    caption_separator: str = DataOptions.caption_separator  # between the tags of a caption
    keep_tokens_separator: str = DataOptions.keep_tokens_separator  # before and after the tags that move; "": keep_tokens decides
    secondary_separator: str | None = DataOptions.secondary_separator  # inside tags that stay together; replaced by caption_separator
    enable_wildcard: bool = DataOptions.enable_wildcard  # picks one part of {a|b}, and one line of a caption with several
    caption_dropout_rate: float = CaptionDropoutOptions.caption_dropout_rate
    caption_dropout_every_n_epochs: int = CaptionDropoutOptions.caption_dropout_every_n_epochs
    caption_tag_dropout_rate: float = CaptionDropoutOptions.caption_tag_dropout_rate
    token_warmup_min: int = DataOptions.token_warmup_min  # number of tags
    token_warmup_step: float = DataOptions.token_warmup_step  # updates; below 1: fraction of all updates
    flip_aug: bool = DataOptions.flip_aug
    color_aug: bool = DataOptions.color_aug
    random_crop: bool = DataOptions.random_crop
    face_crop_aug_range: tuple[float, float] | None = None  # crop side ÷ face side
    loss_weight: float = 1.0  # factor of the loss of its images
    conditioning_data_dir: Path | None = None  # mask images, for --masked_loss and --train_inpainting
    alpha_mask: bool = DataOptions.alpha_mask
    resize_interpolation: str | None = DataOptions.resize_interpolation  # None: area when shrinking, Lanczos when enlarging
    custom_attributes: str = ""  # JSON for other programs; no effect here
    prior_prompt: tuple[str, ...] = PriorOptions.prior_prompt  # captions of the showings whose target is the base model's prediction
    prior_identifier: str | None = PriorOptions.prior_identifier  # words that the prompt replaces
    prior_share: float = PriorOptions.prior_share  # fraction of the showings that use prior_prompt; not for regularization images
    validation_split: float = ValidationOptions.validation_split  # fraction of its images used for validation; 1: all
    validation_seed: int = 0
    as_prepared: bool = False  # every image in its metadata has a train_resolution, which decides the bucket; set by the scan
    place: str = ""  # where it comes from: 'x.toml: datasets[0].subsets[1]' or '--train_data_dir'

    @classmethod
    def of(cls, values: Mapping[str, object], place: str = "") -> SubsetOptions:
        """Build from values by key, each converted by `Key.check`; missing keys get their defaults."""
        return cls(**values, place=place)  # type: ignore[arg-type]  # `Key.check` gives each value the type of its field

    @property
    def moves_tags(self) -> bool:
        """Whether captions are split into tags."""
        return bool(self.shuffle_caption or self.token_warmup_step or self.caption_tag_dropout_rate)

    @property
    def captions_change(self) -> bool:
        """Whether two showings can have different captions, apart from caption dropout."""
        return self.moves_tags or self.enable_wildcard


@dataclass(frozen=True)
class DatasetOptions:
    """Sizes and batch size, shared by the subsets of one dataset."""

    resolution: tuple[int, int]  # (width, height) in pixels
    batch_size: int = DataOptions.train_batch_size
    enable_bucket: bool = DataOptions.enable_bucket
    min_bucket_reso: int = DataOptions.min_bucket_reso
    max_bucket_reso: int = DataOptions.max_bucket_reso
    bucket_reso_steps: int = DataOptions.bucket_reso_steps
    bucket_no_upscale: bool = DataOptions.bucket_no_upscale
    network_multiplier: float = 1.0  # strength of the trained network for its images

    @classmethod
    def of(cls, values: Mapping[str, object]) -> DatasetOptions:
        """Build from values by key, each converted by `Key.check`; missing keys get their defaults."""
        return cls(**values)  # type: ignore[arg-type]  # `Key.check` gives each value the type of its field


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset: its options and its subsets, all of the same form."""

    options: DatasetOptions
    subsets: tuple[SubsetOptions, ...]

    @property
    def form(self) -> str:
        """METADATA if captions come from metadata files, else DREAMBOOTH."""
        return METADATA if self.subsets[0].metadata_file else DREAMBOOTH


@dataclass(frozen=True)
class DatasetBlueprint:
    """All datasets of a run; `findings` are lines to report that stop nothing."""

    datasets: tuple[DatasetSpec, ...]
    findings: tuple[str, ...] = ()
    inpainting: bool = False  # each showing has a mask of the area to fill in

    def subsets(self) -> list[SubsetOptions]:
        """The subsets of all datasets in order."""
        return [subset for dataset in self.datasets for subset in dataset.subsets]


def check_caching(blueprint: DatasetBlueprint) -> list[Problem]:
    """Errors that prevent latent caching, one line each: every option that changes pixels from showing to showing."""
    reasons = {
        "color_aug": "changes the colours each time",
        "random_crop": "crops differently each time",
        "face_crop_aug_range": "crops differently each time",
    }
    return [
        coded(
            "DATA-018",
            f"{subset.place}: {key} {reason}, so latents cannot be cached; remove {key} or --cache_latents (flip_aug works with caching)",
        )
        for subset in blueprint.subsets()
        for key, reason in reasons.items()
        if getattr(subset, key)
    ]
