"""What to train on and by which rules: the values that every later step reads. Defaults are those of the options of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from library.errors import Problem, coded
from library.options.groups.data import CaptionDropoutOptions, DataOptions, MetadataOptions, PriorOptions
from library.options.groups.validation import ValidationOptions

Size = tuple[int, int]  # (width, height) in pixels
AS_PREPARED: Size = (0, 0)  # the resolution of a dataset that leaves it to its metadata, until the scan puts the largest size there


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
    keep_tokens: int = DataOptions.keep_tokens  # comma-separated tags
    caption_extension: str = DataOptions.caption_extension
    caption_prefix: str | None = DataOptions.caption_prefix
    caption_suffix: str | None = DataOptions.caption_suffix
    caption_separator: str = DataOptions.caption_separator  # between the tags of a caption
    keep_tokens_separator: str = DataOptions.keep_tokens_separator  # before and behind the tags that move; "": keep_tokens says which do
    secondary_separator: str | None = DataOptions.secondary_separator  # inside tags that stay together; becomes caption_separator
    enable_wildcard: bool = DataOptions.enable_wildcard  # {a|b} draws one of them, and of a caption with several lines one line
    caption_dropout_rate: float = CaptionDropoutOptions.caption_dropout_rate
    caption_dropout_every_n_epochs: int = CaptionDropoutOptions.caption_dropout_every_n_epochs
    caption_tag_dropout_rate: float = CaptionDropoutOptions.caption_tag_dropout_rate
    token_warmup_min: int = DataOptions.token_warmup_min  # tags
    token_warmup_step: float = DataOptions.token_warmup_step  # updates; under 1: share of all updates
    flip_aug: bool = DataOptions.flip_aug
    color_aug: bool = DataOptions.color_aug
    random_crop: bool = DataOptions.random_crop
    face_crop_aug_range: tuple[float, float] | None = None  # crop side ÷ face side
    loss_weight: float = 1.0  # factor of the loss of each of its images
    conditioning_data_dir: Path | None = None  # mask images, for --masked_loss and --train_inpainting
    alpha_mask: bool = DataOptions.alpha_mask
    resize_interpolation: str | None = DataOptions.resize_interpolation  # None: area where an image shrinks, Lanczos where it grows
    custom_attributes: str = ""  # JSON, kept for programs that read it; no effect here
    prior_prompt: tuple[str, ...] = PriorOptions.prior_prompt  # captions of its draws whose target is the base model's prediction
    prior_identifier: str | None = PriorOptions.prior_identifier  # the words that such a caption does without
    prior_share: float = PriorOptions.prior_share  # of the draws of its images, if it is no regularization
    validation_split: float = ValidationOptions.validation_split  # share of its images that is kept for validation; 1: all
    validation_seed: int = 0
    as_prepared: bool = False  # every image of its metadata has a train_resolution, which decides its bucket; the scan finds out
    place: str = ""  # where the user wrote it: 'x.toml: datasets[0].subsets[1]' or '--train_data_dir'

    @classmethod
    def of(cls, values: Mapping[str, object], place: str = "") -> SubsetOptions:
        """From values by key, each of which has been through `Key.check`; keys that are left out have their defaults."""
        return cls(**values, place=place)  # type: ignore[arg-type]  # `Key.check` gives each value the type of its field

    @property
    def moves_tags(self) -> bool:
        """Whether a draw takes captions apart into their tags."""
        return bool(self.shuffle_caption or self.token_warmup_step or self.caption_tag_dropout_rate)

    @property
    def captions_change(self) -> bool:
        """Whether two draws of a caption may differ, apart from leaving it out altogether."""
        return self.moves_tags or self.enable_wildcard


@dataclass(frozen=True)
class DatasetOptions:
    """The sizes and the batch that the subsets of one dataset share."""

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
        """From values by key, each of which has been through `Key.check`; keys that are left out have their defaults."""
        return cls(**values)  # type: ignore[arg-type]  # `Key.check` gives each value the type of its field


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
    inpainting: bool = False  # each draw comes with a mask of what has to be filled in

    def subsets(self) -> list[SubsetOptions]:
        """The subsets of all datasets in order."""
        return [subset for dataset in self.datasets for subset in dataset.subsets]


def check_caching(blueprint: DatasetBlueprint) -> list[Problem]:
    """The faults that stand in the way of latent caching, one line each: everything that changes pixels from draw to draw."""
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
