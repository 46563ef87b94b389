"""The declarations say what users of the well-known suite already type, and what they need to know about it."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from library.options.declare import build, groups_of, options_of, options_table
from library.options.groups.scripts import SCRIPTS, FineTune, TrainDb, TrainingScript, TrainNetwork, TrainTextualInversionXti
from library.options.groups.training import IdleOptions

ROOT = Path(__file__).parents[2]
TOLD = {f"metadata_{word}" for word in ("title", "author", "description", "license", "tags", "privacy")} | {"no_metadata"}
BEYOND_THE_LIST = {  # named by the requirements or the users' guide only
    *("sdpa", "log_tracker_config", "scheduler_args", "resume_lr", "sample_at_first", "dry_run", "report_html", *TOLD),
    *("cache_latents_kind", "cache_text_encoder_outputs", "skip_bad_images"),
}
BEYOND_THE_LIST |= {"lr_decay_steps", "lr_scheduler_min_lr_ratio", "lr_scheduler_timescale"}  # of newer sd-scripts
BEYOND_THE_LIST |= {"full_bf16", "fp8_base", "no_half_vae", "vae_slicing", "vae_tiling", "rehearsal"}

# of newer sd-scripts; early_stop_patience, save_best, ema_* are this suite's own
BEYOND_THE_LIST |= {"ip_noise_gamma", "ip_noise_gamma_random_strength", "noise_offset_random_strength", "debiased_estimation_loss"}
BEYOND_THE_LIST |= {"v_pred_like_loss", "loss_type", "huber_schedule", "huber_c", "huber_scale", "min_timestep", "max_timestep"}
BEYOND_THE_LIST |= {"zero_terminal_snr", "masked_loss", "conditioning_data_dir", "alpha_mask", "validation_split", "validation_seed"}
BEYOND_THE_LIST |= {"validate_every_n_steps", "validate_every_n_epochs", "max_validation_steps", "early_stop_patience", "save_best"}
BEYOND_THE_LIST |= {"ema_decay", "ema_for_samples"}
BEYOND_THE_LIST |= {"caption_prefix", "caption_suffix", "caption_separator", "keep_tokens_separator", "secondary_separator"}
BEYOND_THE_LIST |= {"enable_wildcard", "resize_interpolation", "wandb_run_name", "log_config", "torch_compile", "dynamo_backend"}
BEYOND_THE_LIST |= {"console_log_level", "console_log_file", "console_log_simple"}
BEYOND_THE_LIST |= {"sdpa_backend", "allow_tf32", "channels_last", "cuda_graphs"}
BEYOND_THE_LIST |= {"ddp_timeout", "ddp_gradient_as_bucket_view", "ddp_static_graph"}
BEYOND_THE_LIST |= {f"metadata_{word}" for word in ("usage_hint", "trigger_phrase", "thumbnail", "merged_from", "preprocessor")}
BEYOND_THE_LIST |= {"metadata_is_negative_embedding"}
BEYOND_THE_LIST |= {field.name for field in fields(IdleOptions)}  # of newer sd-scripts, without effect here
_PRIOR = ("prior_from_base", "prior_prompt", "prior_identifier", "prior_share")
BEYOND_OF_ONE = {
    TrainNetwork: {
        *("stop_text_encoder_training", "max_grad_norm_te", "token_string", "init_word", "num_vectors_per_token", "word_weights"),
        *("embedding_lr", "stop_embedding_training", "save_words", *_PRIOR),
    },
    TrainDb: {"learning_rate_te", "max_grad_norm_te", *_PRIOR},
    FineTune: {"learning_rate_te", "max_grad_norm_te", *_PRIOR},
}
BEYOND_THE_LIST |= {"image_ledger", "save_at_steps", "save_from_epoch", "sample_seed"}
BEYOND_THE_LIST |= {"timestep_sampling", "timestep_bias", "stratified_timesteps"}
BEYOND_THE_LIST |= {"train_inpainting"}
BEYOND_THE_LIST |= {"spare_dir", "full_disk_wait"}
BEYOND_THE_LIST |= {"on_nan", "on_full_disk", "save_state_on_train_end", "initial_epoch", "initial_step", "skip_until_initial_step"}


SEVERAL_WORDS = {"token_string", "init_word", "num_vectors_per_token", "weights"}  # one word there, any number here


def flags(spec: type) -> list[dict]:
    """The script's flags as its users know them."""
    return json.loads(Path(__file__).with_name(f"{spec.name.removesuffix('.py')}_flags.json").read_text(encoding="utf-8"))


def named(spec: type) -> dict:
    """The script's options by every name that they have."""
    return {name: option for option in options_of(spec) for name in option.names}


@pytest.mark.parametrize("spec", SCRIPTS)
def test_the_stored_list_of_flags_is_that_of_the_specification(spec: type) -> None:
    specification = ROOT.parent / "shared" / "spec" / "options.json"
    if not specification.is_file():
        pytest.skip("the specification is not next to this checkout")
    rows = json.loads(specification.read_text(encoding="utf-8"))[spec.name]
    attributes = ("type", "default", "choices", "nargs")
    assert [{"flag": row["flags"][0], **{key: row[key] for key in attributes if key in row}} for row in rows] == flags(spec)


@pytest.mark.parametrize(("spec", "row"), [(spec, row) for spec in SCRIPTS for row in flags(spec)], ids=lambda part: str(part)[:60])
def test_a_flag_of_the_list_has_its_type_default_and_choices(spec: type, row: dict) -> None:
    name = row["flag"].removeprefix("--")
    option = named(spec)[name]
    if name in option.aliases:
        return  # another spelling has no separate default
    assert option.type.__name__ == ("bool" if row.get("nargs") == 0 else row["type"])
    assert option.is_list == (row.get("nargs") == "*" or name in SEVERAL_WORDS)
    default = row.get("default", () if option.is_list else None)
    assert option.default == ((default,) if name == "num_vectors_per_token" else default)
    choices = {choice for choice in row.get("choices", ()) if choice is not None}
    assert set(option.choices) == (choices | {75} if name == "max_token_length" else choices)  # 75 is what the guide calls the default


@pytest.mark.parametrize("spec", SCRIPTS)
def test_no_flag_is_there_that_neither_the_list_nor_the_guide_has(spec: type) -> None:
    listed = {row["flag"].removeprefix("--") for row in flags(spec)}
    assert set(named(spec)) - listed == (BEYOND_THE_LIST | BEYOND_OF_ONE.get(spec, set())) - listed


@pytest.mark.parametrize("spec", SCRIPTS)
def test_every_option_has_a_line_of_help_in_plain_characters(spec: type) -> None:
    for option in options_of(spec):
        assert len(option.help) > 20 and option.help[0].isupper() and option.help.isascii(), option.field


@pytest.mark.parametrize("spec", SCRIPTS)
def test_defaults_lie_within_their_own_bounds_and_choices(spec: type) -> None:
    for option in options_of(spec):
        if option.default is None or option.is_list:
            continue
        assert not option.choices or option.default in option.choices
        assert option.at_least is None or option.default >= option.at_least
        assert option.at_most is None or option.default <= option.at_most


def test_values_are_reached_by_group_and_name_and_cannot_be_changed() -> None:
    options = build(TrainNetwork, {"seed": 3, "network_dim": 8}, {"seed": "--seed"})
    assert options.training.seed == 3 and options.network.network_dim == 8 and options.data.train_batch_size == 1
    assert options_table(options)["seed"] == 3
    assert options.given("seed") and not options.given("network_dim")
    with pytest.raises(AttributeError):
        options.training.seed = 4


def test_the_groups_that_all_scripts_share_are_those_of_the_common_base() -> None:
    shared = set.intersection(*(set(groups_of(spec)) for spec in SCRIPTS))
    assert shared == {field.name for field in fields(TrainingScript)}
    for spec in SCRIPTS:
        assert issubclass(spec, TrainingScript)
        for group, kind in groups_of(TrainingScript).items():
            assert issubclass(groups_of(spec)[group], kind)


@pytest.mark.parametrize(("spec", "own"), [(TrainNetwork, "network"), (TrainDb, "trained"), (TrainTextualInversionXti, "word")])
def test_a_scripts_own_group_stands_behind_its_images(spec: type[TrainingScript], own: str) -> None:
    groups = list(groups_of(spec))
    assert groups[:3] == ["model", "data", own] and groups[3 + ("words" in groups)] == "training"


@pytest.mark.parametrize("spec", SCRIPTS)
def test_an_option_that_a_script_lacks_reads_as_not_given(spec: type[TrainingScript]) -> None:
    data, saving = build(spec, {}, {}).data, build(spec, {}, {}).saving
    assert (data.in_json, data.dataset_repeats, data.reg_data_dir, data.prior_loss_weight, data.weighted_captions) == (
        None,
        1,
        None,
        1.0,
        False,
    )
    assert not saving.use_safetensors and saving.save_model_as in (None, "safetensors", "pt")


def test_an_option_that_a_script_has_reads_as_it_is_given() -> None:
    values = {"in_json": "meta.json", "reg_data_dir": "reg", "prior_loss_weight": 0.5, "weighted_captions": True, "dataset_repeats": 3}
    data = build(TrainNetwork, values, {}).data
    assert {name: getattr(data, name) for name in values} == values
    assert build(TrainDb, {"use_safetensors": True}, {}).saving.use_safetensors


def test_a_script_answers_for_the_options_that_only_it_has() -> None:
    assert build(TrainDb, {}, {}).pads_captions and not build(TrainDb, {"no_token_padding": True}, {}).pads_captions
    assert not build(FineTune, {}, {}).uses_xformers
    assert build(FineTune, {"diffusers_xformers": True}, {}).uses_xformers and build(TrainDb, {"xformers": True}, {}).uses_xformers
    word = build(TrainTextualInversionXti, {"token_string": (" shs ",)}, {}).new_words
    assert word is not None and word.words[0].text == "shs" and build(TrainNetwork, {}, {}).new_words is None


def test_the_texts_of_a_literal_are_the_choices() -> None:
    option = next(option for option in options_of(TrainDb) if option.field == "loss_type")
    assert (option.type, option.choices, option.default) == (str, ("l1", "l2", "huber", "smooth_l1"), "l2")


def test_a_printed_options_object_does_not_show_secrets() -> None:
    options = build(TrainNetwork, {"huggingface_token": "hf_secret", "wandb_api_key": "wk_secret"}, {})
    assert "secret" not in repr(options)


def test_declaring_parsing_and_checking_import_no_torch_and_little_else() -> None:
    code = (
        "import sys; from library.options.groups.scripts import TrainNetwork; from library.options.reading.parse import parse; "
        "from library.options.rules.check import check; from library.options.reading.help_text import help_of; help_of(TrainNetwork); "
        "options = parse(TrainNetwork, ['--config_file', sys.argv[1]]); "
        "print([name for name in ('torch', 'numpy', 'diffusers', 'transformers', 'accelerate', 'tqdm') if name in sys.modules])"
    )
    empty = Path(__file__).with_name("empty.toml")
    done = subprocess.run([sys.executable, "-c", code, str(empty)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
