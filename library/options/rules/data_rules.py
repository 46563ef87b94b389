"""Contradictions between the options for the training images and their crops."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.bounds import MOST_PIXELS
from library.options.rules.option_view import OptionView
from library.words import quoted

OLD_FORM = ("train_data_dir", "reg_data_dir", "in_json")  # the location of the images, without --dataset_config


def data_source(options: OptionView) -> Iterator[Problem]:
    """The source of the images must be given once and completely."""
    if options.dataset_class is not None:
        return  # custom_dataset reports what contradicts it
    if options.dataset_config is not None:
        return  # data_remarks reports the other options
    old = [field for field in OLD_FORM if getattr(options, field) is not None]
    if options.train_data_dir is None and options.in_json is None:  # a metadata file may name its images by full path
        reason = f"; {options.at(old[0])} alone is not enough" if old else ""
        yield coded("OPT-007", f"--dataset_config or --train_data_dir is missing: one of them must name the training images{reason}")
    if options.train_data_dir is not None and options.in_json is None and options.resolution is None:
        yield coded("OPT-007", "--resolution is missing: --train_data_dir needs the size to train at, such as --resolution 512")


def data_remarks(options: OptionView) -> Iterator[str]:
    """Options that the dataset config overrides."""
    if options.dataset_config is not None and options.dataset_class is None:
        idle = [options.at(field) for field in OLD_FORM if getattr(options, field) is not None]
        if idle:
            yield f"{' and '.join(idle)}: not used, since --dataset_config names the images; remove one of the two"
    elif options.reg_data_dir is not None and options.in_json is not None and options.dataset_class is None:
        yield f"{options.at('reg_data_dir')}: not used, since --in_json has no regularization images; remove one of the two"


def resolution(options: OptionView) -> Iterator[Problem]:
    """A size that is valid and can be trained at."""
    if options.resolution is None:
        return
    try:
        sides = [int(side) for side in options.resolution.replace("x", ",").split(",")]
    except ValueError:
        sides = []
    if not 1 <= len(sides) <= 2 or not 1 <= min(sides) <= max(sides) <= MOST_PIXELS or "x" in options.resolution:
        said = f"expected pixels as in 512, or width,height as in 512,768, each from 1 to {MOST_PIXELS}, not {quoted(options.resolution)}"
        yield coded("OPT-017", f"{options.at('resolution')}: {said}")
    elif (
        options.train_data_dir is not None
        and options.dataset_config is None
        and not options.enable_bucket
        and any(side % 8 for side in sides)
    ):
        nearest = ",".join(str(max(8, round(side / 8) * 8)) for side in sides)
        yield coded(
            "OPT-017",
            f"{options.at('resolution')}: each side must be a multiple of 8 pixels, not {options.resolution}; the nearest is {nearest}",
        )


def buckets(options: OptionView) -> Iterator[Problem]:
    """The sides of buckets must be possible."""
    if options.min_bucket_reso > options.max_bucket_reso:
        yield coded(
            "OPT-017",
            f"{options.at('min_bucket_reso')}: {options.min_bucket_reso} is greater than --max_bucket_reso {options.max_bucket_reso}; "
            "lower one or raise the other",
        )
    if options.bucket_reso_steps % 8:
        steps = options.bucket_reso_steps
        nearest = max(8, round(steps / 8) * 8)
        yield coded(
            "OPT-017",
            f"{options.at('bucket_reso_steps')}: must be a multiple of 8 pixels, not {steps}; the nearest is {nearest}",
        )


def augmentation(options: OptionView) -> Iterator[Problem]:
    """Augmentation that changes the images in each epoch, while latents are encoded once."""
    for cache in ("cache_latents", "cache_latents_to_disk"):
        for field in ("color_aug", "random_crop", "face_crop_aug_range"):
            if getattr(options, cache) and getattr(options, field):
                yield coded(
                    "DATA-018",
                    f"{options.at(field)}: changes the images in each epoch, so it cannot be used with --{cache}; remove one of them",
                )
    if options.face_crop_aug_range is not None:
        try:
            low, high = (float(part) for part in options.face_crop_aug_range.split(","))
            fits = 1 <= low <= high
        except ValueError:
            fits = False
        if not fits:
            range_text = quoted(options.face_crop_aug_range)
            yield coded(
                "OPT-006",
                f"{options.at('face_crop_aug_range')}: expected two numbers a,b with 1 <= a <= b, such as 2.0,4.0, not {range_text}",
            )
