"""Options of the tools that encode latents before a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_BATCH, MOST_PIXELS, MOST_WORKERS
from library.options.declare import Tool, opt, word
from library.options.groups.data import CaptionDropoutOptions, DataOptions, MetadataOptions, RegularizationOptions, WeightedCaptionOptions

_PRECISION = ("no", "fp16", "bf16")
_WORKERS = "How many threads read images ahead of the model. Default: one less than the number of processors, at most 8."


@dataclass(frozen=True)
class PrepareFilesOptions:
    """Images, metadata and model"""

    train_data_dir: Path = word("The folder of the images; the latents are written next to them.", path="folder")
    in_json: Path = word("The metadata file to read.", path="file")
    out_json: Path = word(
        "The metadata file to write, with the train_resolution of each image; may be the one that is read.", path="new text"
    )
    model_name_or_path: str = word(
        "The model to train, or its VAE alone: a checkpoint, VAE file, Diffusers folder or Hugging Face id.", path="model"
    )
    v2: bool = opt(False, "Has no effect: the VAE works the same for every model.")
    full_path: bool = opt(False, "Use only the entries of the metadata file that are named by full path.")
    recursive: bool = opt(False, "Include the images in subfolders.")


@dataclass(frozen=True)
class PrepareSizesOptions:
    """Sizes"""

    max_resolution: str = opt("512,512", "Size to train at in pixels, as width,height: no bucket has a larger area.")
    min_bucket_reso: int = opt(256, "Smallest side of a bucket in pixels.", at_least=8, at_most=MOST_PIXELS)
    max_bucket_reso: int = opt(1024, "Largest side of a bucket in pixels.", at_least=8, at_most=MOST_PIXELS)
    bucket_reso_steps: int = opt(
        64, "Sides of buckets are multiples of this many pixels; itself a multiple of 8.", at_least=8, at_most=MOST_PIXELS
    )
    bucket_no_upscale: bool = opt(False, "Never enlarge small images: they are prepared in a bucket of their exact size.")


@dataclass(frozen=True)
class PrepareWorkOptions:
    """Work"""

    batch_size: int = opt(1, "How many images the VAE sees at once; more is faster and needs more memory.", at_least=1, at_most=MOST_BATCH)
    max_data_loader_n_workers: int | None = opt(None, _WORKERS, at_least=0, at_most=MOST_WORKERS)
    mixed_precision: str = opt("no", "The precision in which the VAE computes.", choices=_PRECISION)
    flip_aug: bool = opt(False, "Prepare the mirror image of each image too; training then picks one of the two at random.")
    alpha_mask: str = opt("", "Any word, such as yes: keep the transparency of images next to their latents, as loss masks.")
    skip_existing: bool = opt(False, "Keep existing latents that match the image, the model and the size. Default: encode all again.")


@dataclass(frozen=True)
class PrepareBucketsLatents(Tool):
    """Encode the images of a metadata file to latents next to them, each at the size of its bucket, before training with fine_tune.py."""

    name: ClassVar[str] = "finetune/prepare_buckets_latents.py"

    files: PrepareFilesOptions
    sizes: PrepareSizesOptions
    work: PrepareWorkOptions


@dataclass(frozen=True)
class CacheModelOptions:
    """Model"""

    pretrained_model_name_or_path: str | None = opt(None, "The model of the training run, as in its command.", path="model")
    vae: str | None = opt(None, "The VAE of the training run, if its command names one.", path="model")
    mixed_precision: str = opt(
        "no",
        "The precision of the training run for LoRA and textual inversion; not for train_db.py and fine_tune.py, whose VAE "
        "computes in float32.",
        choices=_PRECISION,
    )
    remove: bool = opt(False, "Delete the latents that --cache_latents_to_disk keeps of these images, in every size, and encode none.")


@dataclass(frozen=True)
class CacheDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, MetadataOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class CacheLatents(Tool):
    """Encode the latents of --cache_latents_to_disk for a dataset before a training run, or delete them."""

    name: ClassVar[str] = "tools/cache_latents.py"

    model: CacheModelOptions
    data: CacheDataOptions


LATENT_TOOLS = (PrepareBucketsLatents, CacheLatents)
