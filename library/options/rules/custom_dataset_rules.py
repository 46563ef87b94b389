"""What contradicts `--dataset_class`: options about images and captions, which the suite does not read then."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.rules.option_view import OptionView
from library.words import quoted

_NAMES = "names images, but the class has its own data"
_BATCHES = "the class makes the batches, with their sizes"
_CAPTIONS = "the class makes the captions"
_IMAGES = "the class makes the images"
_CACHE = "the class decides what it returns: it may return latents itself"
_WEIGHTS = "the class returns loss_weights"
_MASKS = "masks that the class returns are always used"
_FILES = "no image file is read"

NO_CLASS = "expected module.Class, such as my_data.Pairs for the class Pairs in my_data.py"
_REASONS: dict[str, str] = {
    **dict.fromkeys("dataset_config train_data_dir reg_data_dir in_json".split(), _NAMES),
    **dict.fromkeys(
        "train_batch_size enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale dataset_repeats".split(),
        _BATCHES,
    ),
    **dict.fromkeys(
        "caption_extension shuffle_caption keep_tokens token_warmup_min token_warmup_step caption_dropout_rate "
        "caption_dropout_every_n_epochs caption_tag_dropout_rate caption_prefix caption_suffix caption_separator keep_tokens_separator "
        "secondary_separator enable_wildcard".split(),
        _CAPTIONS,
    ),
    **dict.fromkeys("color_aug flip_aug face_crop_aug_range random_crop resize_interpolation".split(), _IMAGES),
    **dict.fromkeys("cache_latents cache_latents_to_disk cache_latents_kind vae_batch_size".split(), _CACHE),
    **dict.fromkeys("conditioning_data_dir alpha_mask masked_loss".split(), _MASKS),
    "prior_loss_weight": _WEIGHTS,
    "skip_bad_images": _FILES,
    "report_html": "the page shows image files; --debug_dataset shows the batches of a class",
    **dict.fromkeys(
        "validation_split validation_seed validate_every_n_steps validate_every_n_epochs max_validation_steps save_best "
        "early_stop_patience".split(),
        "images cannot be separated from the batches of a class",
    ),
}


def names_class(value: str) -> bool:
    """Whether the value has the form module.Class."""
    module, _, name = value.rpartition(".")
    return all(part.isidentifier() for part in (*module.split("."), name))


def custom_dataset(options: OptionView) -> Iterator[Problem]:
    """Yield an error for each option that is unused with `--dataset_class`, and for a value of it that names no class."""
    if options.dataset_class is None:
        return
    if not names_class(options.dataset_class):
        yield coded("DATA-020", f"{options.at('dataset_class')}: {NO_CLASS}, not {quoted(options.dataset_class)}")
    for option, reason in _REASONS.items():
        if options.differs(option):
            yield coded("OPT-008", f"{options.at(option)}: cannot be used together with --dataset_class: {reason}; remove it")
    if options.cache_text_encoder_outputs == "on":
        reason = "the texts of the batches are not known in advance"
        yield coded(
            "OPT-008", f"{options.at('cache_text_encoder_outputs')}: on cannot be used together with --dataset_class: {reason}; remove it"
        )
