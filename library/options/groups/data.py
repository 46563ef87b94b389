"""Options that say which images and captions are trained on, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from library.options.bounds import MOST_BATCH, MOST_EPOCHS, MOST_PIXELS, MOST_REPEATS, MOST_STEPS, MOST_TAGS, MOST_WEIGHT, MOST_WORKERS
from library.options.declare import Leniency, opt


class _OfSomeScripts:
    """How options of some scripts read where a script lacks them: as not given. So a section is the same for whoever reads it."""

    @property
    def reg_data_dir(self) -> str | None:
        """Regularization images."""
        return RegularizationOptions.reg_data_dir

    @property
    def prior_loss_weight(self) -> float:
        """Their share of the loss."""
        return RegularizationOptions.prior_loss_weight

    @property
    def prior_from_base(self) -> float | None:
        """What draws count whose target is the base model's prediction; None: there are none."""
        return PriorOptions.prior_from_base

    @property
    def in_json(self) -> str | None:
        """The metadata file."""
        return MetadataOptions.in_json

    @property
    def dataset_repeats(self) -> int:
        """Repeats of its images."""
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
        "Without --dataset_config: the folder that holds the image folders, each named <repeats>_<identifier> <class>, such as "
        "'10_shs dog'. "
        "It is the parent, not the folder with the images. With --in_json: the folder with the images, needed unless it names "
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
        "Images in one training step. More is faster and steadier and needs more GPU memory.",
        at_least=1,
        at_most=MOST_BATCH,
    )
    enable_bucket: bool = opt(
        False,
        "Train each image at a size that fits its own shape (aspect ratio buckets), so that hardly anything is cropped. Recommended.",
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
    bucket_no_upscale: bool = opt(False, "Never enlarge small images: they are trained in a bucket of their own size.")
    caption_extension: str = opt(
        ".caption",
        'Ending of the caption files beside the images. Give .txt if yours end so; "" reads none and trains the class words.',
        aliases=("caption_extention",),
        leniency=Leniency(empty_is_value=True),
        path="part of a name",
    )
    caption_prefix: str | None = opt(
        None, "Text in front of every caption, as it is: write its comma too. Tags of it are shuffled as well."
    )
    caption_suffix: str | None = opt(None, "Text behind every caption, as it is: write its comma too. Tags of it are shuffled as well.")
    caption_separator: str = opt(",", "What separates the tags of a caption.")
    keep_tokens_separator: str = opt(
        "",
        "Instead of --keep_tokens: a sign such as ||| in captions; tags before it stay in place, and those behind a second one too.",
    )
    secondary_separator: str | None = opt(
        None,
        "A sign such as ;;; between tags that stay together; it becomes the caption separator in the end.",
    )
    enable_wildcard: bool = opt(
        False,
        "In each draw replace {a|b|c} in captions by one of its parts, and use one line of caption files that have several.",
    )
    shuffle_caption: bool = opt(False, "Put the comma-separated parts of a caption in a new random order each time.")
    keep_tokens: int = opt(
        0,
        "With --shuffle_caption and tag dropout: so many parts at the start of a caption stay where they are.",
        at_least=0,
        at_most=MOST_TAGS,
    )
    token_warmup_min: int = opt(
        1,
        "Caption warm-up starts with so many comma-separated parts and adds more as training goes on.",
        at_least=0,
        at_most=MOST_TAGS,
    )
    token_warmup_step: float = opt(
        0.0,
        "Step at which caption warm-up ends and whole captions are used; below 1 a share of all steps (0.2 = a fifth). 0 = no warm-up.",
        at_least=0,
        at_most=MOST_STEPS,
    )
    color_aug: bool = opt(False, "Change the colours of images slightly and at random. Not together with --cache_latents.")
    flip_aug: bool = opt(False, "Mirror images left to right at random. Not for subjects of which left and right differ.")
    face_crop_aug_range: str | None = opt(
        None,
        "Crop around the face, at 1/a to 1/b of the image, given as a,b such as 2.0,4.0. For images whose file names hold the "
        "face position.",
        also_numbers=True,
    )
    random_crop: bool = opt(False, "Crop at a random place instead of the centre. Not together with --cache_latents.")
    resize_interpolation: str | None = opt(
        None,
        "How images are scaled: left out, area where they shrink and lanczos where they grow, which suits nearly all.",
        choices=("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area", "box"),
    )
    conditioning_data_dir: str | None = opt(
        None,
        "Without --dataset_config, for --masked_loss and --train_inpainting: the folder of the mask images, each named like its image. "
        "White is trained (filled in), black is not. It may hold folders of the same names as --train_data_dir does.",
        path="folder",
    )
    alpha_mask: bool = opt(False, "Use the transparency of images as masks of the loss: what is transparent is not trained.")
    cache_latents: bool = opt(
        False,
        "Turn all images into latents once, before training, and keep them in main memory: faster, and needs less GPU memory. Recommended.",
    )
    cache_latents_to_disk: bool = opt(
        False,
        "Like --cache_latents, with the latents kept in files beside the images for the next run (docs/caches.md).",
    )
    cache_latents_kind: str = opt(
        "distribution",
        "What is kept of an image: the distribution that the VAE gives, from which each epoch draws anew as it would without a cache, "
        "or its mean alone, which takes half the space and is the same in every epoch.",
        choices=("distribution", "mean"),
    )
    vae_batch_size: int = opt(
        1, "Images that are turned into latents at once while caching.", at_least=1, at_most=MOST_BATCH, leniency=Leniency(zero_is_off=True)
    )
    cache_text_encoder_outputs: str = opt(
        "auto",
        "Where the text encoder is not trained: encode each caption once and keep the result in memory. auto does so where captions stay "
        "as they are (no shuffling, tag dropout or warm-up), on also where they change, off never. The result is the same.",
        choices=("auto", "on", "off"),
    )
    skip_bad_images: bool = opt(
        False,
        "Leave images out that cannot be read and list them, instead of stopping before the run. One that breaks later is replaced "
        "by another one of its size in any case.",
    )
    debug_dataset: bool = opt(
        False,
        "Show the images and captions as they would be trained, and train nothing: in a window (S next batch, E next epoch, Esc ends), "
        "or without a screen as dataset.html in --output_dir.",
    )
    dry_run: bool = opt(
        False,
        "Train nothing: read all that the run would, and print what was found, what is wrong and what to do about it (docs/report.md). "
        "Ends with 0 if the run would start and with 2 if not.",
    )
    report_html: Path | None = opt(
        None,
        "With --dry_run: write the report to this .html file too, with pictures of the crops and the captions of the first epoch.",
        path="new file",
    )
    max_data_loader_n_workers: int = opt(
        8,
        "Processes that read images, at most CPU threads - 1. Fewer need less main memory; 0 reads in the main process.",
        at_least=0,
        at_most=MOST_WORKERS,
    )
    persistent_data_loader_workers: bool = opt(False, "Keep those processes between epochs: shorter pauses, on Windows above all.")
    dataset_class: str | None = opt(
        None,
        "Instead of --dataset_config: a class of your own that makes the batches, as module.Class, such as my_data.Pairs for my_data.py in "
        "the current folder (docs/dataset_class.md).",
    )


@dataclass(frozen=True)
class RegularizationOptions:
    """Regularization images (train_db.py, train_network.py, textual inversion)"""

    reg_data_dir: str | None = opt(
        None, "The folder that holds the folders of regularization images, each named <repeats>_<class>, such as '1_dog'.", path="folder"
    )
    prior_loss_weight: float = opt(
        1.0, "How much regularization images count compared with training images; 1 = the same.", at_least=0, at_most=MOST_WEIGHT
    )


@dataclass(frozen=True)
class PriorOptions:
    """What the model knows kept without regularization images (train_network.py, train_db.py, fine_tune.py)"""

    prior_from_base: float | None = opt(
        None,
        "Keep what the model knows without regularization images: in a share of the draws the caption names the class alone and the "
        "answer asked for is that of the model as it was before training; their loss counts so much. 1 to begin with; left out or 0 = off.",
        at_least=0,
        at_most=MOST_WEIGHT,
        leniency=Leniency(zero_is_off=True),
    )
    prior_prompt: tuple[str, ...] = opt(
        (),
        "With --prior_from_base: the caption of those draws, such as dog; of several each draw takes one. With --prior_identifier it "
        "stands in the identifier's place only.",
    )
    prior_identifier: str | None = opt(
        None,
        "With --prior_from_base: the words that name the subject in captions, such as sks. Those draws have their own caption without them "
        "(a photo of sks dog becomes a photo of dog).",
    )
    prior_share: float = opt(
        0.5, "With --prior_from_base: the share of the draws of train images that are made so, 0 to 1.", at_least=0, at_most=1
    )


@dataclass(frozen=True)
class MetadataOptions:
    """Captions from a metadata file (fine_tune.py, train_network.py, textual inversion)"""

    in_json: str | None = opt(
        None, "Metadata file with the captions and tags of the images in --train_data_dir (the fine-tuning way).", path="file"
    )
    dataset_repeats: int = opt(1, "How many times an epoch uses each image of --in_json.", at_least=1, at_most=MOST_REPEATS)


@dataclass(frozen=True)
class CaptionDropoutOptions:
    """Captions left out at random (not for textual inversion)"""

    caption_dropout_rate: float = opt(0.0, "Share of draws that use an empty caption, 0 to 1.", at_least=0, at_most=1)
    caption_dropout_every_n_epochs: int = opt(0, "Every N-th epoch uses empty captions only. 0 = never.", at_least=0, at_most=MOST_EPOCHS)
    caption_tag_dropout_rate: float = opt(
        0.0,
        "Chance that a comma-separated part of a caption is left out, 0 to 1.",
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
