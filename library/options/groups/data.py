"""Options for the images and captions of the training, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from library.options.bounds import MOST_BATCH, MOST_EPOCHS, MOST_PIXELS, MOST_REPEATS, MOST_STEPS, MOST_TAGS, MOST_WEIGHT, MOST_WORKERS
from library.options.declare import Leniency, opt


class _OfSomeScripts:
    """Values for scripts that lack these options: not set. So every script's section can be read in the same way."""

    @property
    def reg_data_dir(self) -> str | None:
        """Regularization images."""
        return RegularizationOptions.reg_data_dir

    @property
    def prior_loss_weight(self) -> float:
        """The share of the loss from regularization images."""
        return RegularizationOptions.prior_loss_weight

    @property
    def prior_from_base(self) -> float | None:
        """The weight of the draws whose target is the base model's prediction; None without them."""
        return PriorOptions.prior_from_base

    @property
    def in_json(self) -> str | None:
        """The metadata file."""
        return MetadataOptions.in_json

    @property
    def dataset_repeats(self) -> int:
        """Repeats of the images in the metadata file."""
        return MetadataOptions.dataset_repeats

    @property
    def weighted_captions(self) -> bool:
        """Weights in captions."""
        return WeightedCaptionOptions.weighted_captions


@dataclass(frozen=True)
class DataOptions(_OfSomeScripts):
    """Images and captions"""

    dataset_config: Path | None = opt(
        None, "A .toml or .json file that describes the datasets (docs/dataset_config.md). The usual way to name your images.", path="file"
    )
    train_data_dir: str | None = opt(
        None,
        "Without --dataset_config: the parent of the image folders, each named <repeats>_<identifier> <class>, such as "
        "'10_shs dog'. "
        "Not the folder with the images. With --in_json: the folder with the images, needed unless the file names "
        "them by full paths.",
        path="folder",
    )
    resolution: str | None = opt(
        None,
        "Size to train at in pixels: one number for a square (512) or width,height (512,768). 512 suits 1.x models, 768 the 2.x 768 ones.",
        also_numbers=True,
    )
    train_batch_size: int = opt(
        1,
        "Images in one batch. Larger batches are faster and steadier and need more GPU memory.",
        at_least=1,
        at_most=MOST_BATCH,
    )
    enable_bucket: bool = opt(
        False,
        "Train each image at a size that fits its shape (aspect ratio buckets), so that hardly anything is cropped. Recommended.",
    )
    min_bucket_reso: int = opt(256, "Smallest side of a bucket in pixels.", at_least=8, at_most=MOST_PIXELS)
    max_bucket_reso: int = opt(1024, "Largest side of a bucket in pixels.", at_least=8, at_most=MOST_PIXELS)
    bucket_reso_steps: int = opt(
        64,
        "Sides of buckets are multiples of this many pixels; itself a multiple of 8.",
        at_least=8,
        at_most=MOST_PIXELS,
        leniency=Leniency(raised_to_least=True),
    )
    bucket_no_upscale: bool = opt(False, "Never enlarge small images: they are trained in a bucket of their exact size.")
    caption_extension: str = opt(
        ".caption",
        'File extension of the caption files next to the images, such as .txt; "" reads none and trains the class words.',
        aliases=("caption_extention",),
        leniency=Leniency(empty_is_value=True),
        path="part of a name",
    )
    caption_prefix: str | None = opt(
        None, "Text to put before every caption, exactly as written: include the comma. Its tags are shuffled too."
    )
    caption_suffix: str | None = opt(
        None, "Text to put after every caption, exactly as written: include the comma. Its tags are shuffled too."
    )
    caption_separator: str = opt(",", "Separator between the tags of a caption.")
    keep_tokens_separator: str = opt(
        "",
        "Instead of --keep_tokens: a marker such as ||| in captions; tags before it stay in place, and so do those after a second one.",
    )
    secondary_separator: str | None = opt(
        None,
        "A marker such as ;;; between tags that stay together; it is replaced by the caption separator afterwards.",
    )
    enable_wildcard: bool = opt(
        False,
        "Each time an image is used, replace {a|b|c} in its caption with one of the parts, and use one line of a multi-line caption file.",
    )
    shuffle_caption: bool = opt(False, "Shuffle the comma-separated parts of a caption each time.")
    keep_tokens: int = opt(
        0,
        "With --shuffle_caption and tag dropout: how many parts at the start of a caption stay in place.",
        at_least=0,
        at_most=MOST_TAGS,
    )
    token_warmup_min: int = opt(
        1,
        "Number of comma-separated parts that caption warm-up starts with; more are added as training continues.",
        at_least=0,
        at_most=MOST_TAGS,
    )
    token_warmup_step: float = opt(
        0.0,
        "Update at which caption warm-up ends and whole captions are used; below 1: a fraction of the run (0.2 = a fifth). 0 = no warm-up.",
        at_least=0,
        at_most=MOST_STEPS,
    )
    color_aug: bool = opt(False, "Change the colours of images slightly and at random. Not together with --cache_latents.")
    flip_aug: bool = opt(False, "Mirror images left to right at random. Not for subjects whose left and right differ.")
    face_crop_aug_range: str | None = opt(
        None,
        "Crop around the face, at 1/a to 1/b of the image, given as a,b such as 2.0,4.0. For images whose file names contain the "
        "face position.",
        also_numbers=True,
    )
    random_crop: bool = opt(False, "Crop at a random place instead of the centre. Not together with --cache_latents.")
    resize_interpolation: str | None = opt(
        None,
        "How images are scaled. Default: area when shrinking and lanczos when enlarging, which suits nearly all images.",
        choices=("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area", "box"),
    )
    conditioning_data_dir: str | None = opt(
        None,
        "Without --dataset_config, for --masked_loss and --train_inpainting: the folder of the mask images, each named like its image. "
        "White is trained (filled in), black is not. It may contain folders with the same names as in --train_data_dir.",
        path="folder",
    )
    alpha_mask: bool = opt(False, "Use the transparency of images as loss masks: transparent areas are not trained.")
    cache_latents: bool = opt(
        False,
        "Encode all images to latents once, before training, and keep them in main memory: faster, with less GPU memory. Recommended.",
    )
    cache_latents_to_disk: bool = opt(
        False,
        "Like --cache_latents, and also save the latents in files next to the images for the next run (docs/caches.md).",
    )
    cache_latents_kind: str = opt(
        "distribution",
        "What is cached of an image: the distribution that the VAE predicts, sampled again in each epoch as without a cache, "
        "or only its mean, which takes half the space and is the same in every epoch.",
        choices=("distribution", "mean"),
    )
    vae_batch_size: int = opt(
        1, "Number of images to encode at once while caching latents.", at_least=1, at_most=MOST_BATCH, leniency=Leniency(zero_is_off=True)
    )
    cache_text_encoder_outputs: str = opt(
        "auto",
        "If the text encoder is not trained: encode each caption once and keep the result in memory. auto: if captions never change "
        "(no shuffling, tag dropout or warm-up); on: also if they change; off: never. The result is the same.",
        choices=("auto", "on", "off"),
    )
    skip_bad_images: bool = opt(
        False,
        "Skip and list images that cannot be read, instead of stopping before the run. An image that becomes unreadable later is "
        "always replaced by another of its size.",
    )
    debug_dataset: bool = opt(
        False,
        "Show the images and captions as they would be trained, and train nothing: in a window (S next batch, E next epoch, Esc to quit), "
        "or, without a screen, as dataset.html in --output_dir.",
    )
    dry_run: bool = opt(
        False,
        "Train nothing: read everything the run would read, and report what was found, what is wrong and how to fix it (docs/report.md). "
        "Exit code 0 if the run would start, 2 if not.",
    )
    report_html: Path | None = opt(
        None,
        "With --dry_run: also write the report to this .html file, with thumbnails of the crops and the captions of the first epoch.",
        path="new text",
    )
    max_data_loader_n_workers: int = opt(
        8,
        "Number of processes that read images, at most CPU threads - 1. Fewer use less main memory; 0 reads in the main process.",
        at_least=0,
        at_most=MOST_WORKERS,
    )
    persistent_data_loader_workers: bool = opt(False, "Keep those processes between epochs: shorter pauses, especially on Windows.")
    dataset_class: str | None = opt(
        None,
        "Instead of --dataset_config: your own class that makes the batches, as module.Class, such as my_data.Pairs for my_data.py in "
        "the current folder (docs/dataset_class.md).",
    )


@dataclass(frozen=True)
class RegularizationOptions:
    """Regularization images (train_db.py, train_network.py, textual inversion)"""

    reg_data_dir: str | None = opt(
        None, "The parent of the folders of regularization images, each named <repeats>_<class>, such as '1_dog'.", path="folder"
    )
    prior_loss_weight: float = opt(
        1.0, "How much regularization images count compared with training images; 1 = the same.", at_least=0, at_most=MOST_WEIGHT
    )


@dataclass(frozen=True)
class PriorOptions:
    """Keep what the model knows without regularization images (train_network.py, train_db.py, fine_tune.py)"""

    prior_from_base: float | None = opt(
        None,
        "Keep what the model knows without regularization images: for a share of the training images, use a caption with the class only "
        "and the prediction of the model before training as target. The value is their loss weight: start with 1. Default or 0: off.",
        at_least=0,
        at_most=MOST_WEIGHT,
        leniency=Leniency(zero_is_off=True),
    )
    prior_prompt: tuple[str, ...] = opt(
        (),
        "With --prior_from_base: the caption for the class, such as dog; with several, one is chosen at random each time. With "
        "--prior_identifier it only replaces the identifier.",
    )
    prior_identifier: str | None = opt(
        None,
        "With --prior_from_base: the words that name the subject in captions, such as shs. The class caption is the image's caption "
        "without them (a photo of shs dog becomes a photo of dog).",
    )
    prior_share: float = opt(0.5, "With --prior_from_base: the share of training images used this way, 0 to 1.", at_least=0, at_most=1)


@dataclass(frozen=True)
class MetadataOptions:
    """Captions from a metadata file (fine_tune.py, train_network.py, textual inversion)"""

    in_json: str | None = opt(
        None, "Metadata file with the captions and tags of the images in --train_data_dir (the fine-tuning way).", path="file"
    )
    dataset_repeats: int = opt(1, "How many times an epoch uses each image of --in_json.", at_least=1, at_most=MOST_REPEATS)


@dataclass(frozen=True)
class CaptionDropoutOptions:
    """Caption dropout (not for textual inversion)"""

    caption_dropout_rate: float = opt(0.0, "Probability of using an empty caption, 0 to 1.", at_least=0, at_most=1)
    caption_dropout_every_n_epochs: int = opt(0, "Every N-th epoch uses empty captions only. 0 = never.", at_least=0, at_most=MOST_EPOCHS)
    caption_tag_dropout_rate: float = opt(
        0.0,
        "Probability of dropping each comma-separated part of a caption, 0 to 1.",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class WeightedCaptionOptions:
    """Weights in captions (not for textual inversion)"""

    weighted_captions: bool = opt(
        False,
        "Read (word), [word] and (word:1.2) in captions as weights, as in the Web UI. No commas inside brackets.",
    )
