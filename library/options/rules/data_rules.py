"""Contradictions between the options for the training images and their crops."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.bounds import MOST_PIXELS
from library.options.rules.option_view import Given
from library.words import quoted

OLD_FORM = ("train_data_dir", "reg_data_dir", "in_json")  # the location of the images, without --dataset_config


def data_source(given: Given) -> Iterator[Problem]:
    """The source of the images must be given once and completely."""
    if given.dataset_class is not None:
        return  # custom_dataset reports what contradicts it
    if given.dataset_config is not None:
        return  # data_remarks reports the other options
    old = [field for field in OLD_FORM if getattr(given, field) is not None]
    if given.train_data_dir is None and given.in_json is None:  # a metadata file may name its images by full path
        reason = f"; {given.at(old[0])} alone is not enough" if old else ""
        yield coded("OPT-007", f"--dataset_config or --train_data_dir is missing: one of them must name the training images{reason}")
    if given.train_data_dir is not None and given.in_json is None and given.resolution is None:
        yield coded("OPT-007", "--resolution is missing: --train_data_dir needs the size to train at, such as --resolution 512")


def data_remarks(given: Given) -> Iterator[str]:
    """Options that the dataset config overrides."""
    if given.dataset_config is not None and given.dataset_class is None:
        idle = [given.at(field) for field in OLD_FORM if getattr(given, field) is not None]
        if idle:
            yield f"{' and '.join(idle)}: not used, since --dataset_config names the images; remove one of the two"
    elif given.reg_data_dir is not None and given.in_json is not None and given.dataset_class is None:
        yield f"{given.at('reg_data_dir')}: not used, since --in_json has no regularization images; remove one of the two"


def resolution(given: Given) -> Iterator[Problem]:
    """A size that is valid and can be trained at."""
    if given.resolution is None:
        return
    try:
        sides = [int(side) for side in given.resolution.replace("x", ",").split(",")]
    except ValueError:
        sides = []
    if not 1 <= len(sides) <= 2 or not 1 <= min(sides) <= max(sides) <= MOST_PIXELS or "x" in given.resolution:
        said = f"expected pixels as in 512, or width,height as in 512,768, each from 1 to {MOST_PIXELS}, not {quoted(given.resolution)}"
        yield coded("OPT-017", f"{given.at('resolution')}: {said}")
    elif given.train_data_dir is not None and given.dataset_config is None and not given.enable_bucket and any(side % 8 for side in sides):
        nearest = ",".join(str(max(8, round(side / 8) * 8)) for side in sides)
        yield coded(
            "OPT-017",
            f"{given.at('resolution')}: each side must be a multiple of 8 pixels, not {given.resolution}; the nearest is {nearest}",
        )


def buckets(given: Given) -> Iterator[Problem]:
    """The sides of buckets must be possible."""
    if given.min_bucket_reso > given.max_bucket_reso:
        yield coded(
            "OPT-017",
            f"{given.at('min_bucket_reso')}: {given.min_bucket_reso} is greater than --max_bucket_reso {given.max_bucket_reso}; "
            "lower one or raise the other",
        )
    if given.bucket_reso_steps % 8:
        steps = given.bucket_reso_steps
        yield coded(
            "OPT-017",
            f"{given.at('bucket_reso_steps')}: must be a multiple of 8 pixels, not {steps}; the nearest is {max(8, round(steps / 8) * 8)}",
        )


def augmentation(given: Given) -> Iterator[Problem]:
    """Augmentation that changes the images in each epoch, while latents are encoded once."""
    for cache in ("cache_latents", "cache_latents_to_disk"):
        for field in ("color_aug", "random_crop", "face_crop_aug_range"):
            if getattr(given, cache) and getattr(given, field):
                yield coded(
                    "DATA-018",
                    f"{given.at(field)}: changes the images in each epoch, so it cannot be used with --{cache}; remove one of them",
                )
    if given.face_crop_aug_range is not None:
        try:
            low, high = (float(part) for part in given.face_crop_aug_range.split(","))
            fits = 1 <= low <= high
        except ValueError:
            fits = False
        if not fits:
            found = given.face_crop_aug_range
            yield coded(
                "OPT-006",
                f"{given.at('face_crop_aug_range')}: expected two numbers a,b with 1 <= a <= b, such as 2.0,4.0, not {quoted(found)}",
            )
