"""What cannot work is refused before anything heavy is loaded, all of it at once, and nothing is written meanwhile."""

import os
from pathlib import Path

import pytest

from library.errors import Problem, UserError
from library.options.groups.scripts import FineTune, TrainNetwork, TrainTextualInversion
from library.options.reading.parse import parse
from library.options.rules.check import check
from tests.messages import message, refusal, refusals


@pytest.fixture
def good(tmp_path: Path, monkeypatch) -> list[str]:
    """A command line that passes; the working folder contains what it names."""
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").write_bytes(b"")
    Path("data.toml").write_text("", encoding="utf-8")
    Path("prompts.txt").write_text("a cat\n", encoding="utf-8")
    Path("images").mkdir()
    Path("taken.safetensors").mkdir()
    names = ("--pretrained_model_name_or_path", "model.safetensors", "--output_dir", "out", "--network_module", "networks.lora")
    return [*names, "--dataset_config", "data.toml"]


def problems(*argv: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        check(parse(TrainNetwork, argv))
    return error.value.problems


@pytest.fixture
def warnings(heard):
    """A function from a command line that passes to what was said about it."""

    def said(*argv: str) -> str:
        check(parse(TrainNetwork, argv))
        return heard.text

    return said


def test_a_good_command_line_passes_and_leaves_the_folder_as_it_was(good, tmp_path: Path, warnings) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert warnings(*good) == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_the_old_command_line_form_passes(good) -> None:
    check(parse(TrainNetwork, [*good[:-2], "--train_data_dir", "images", "--resolution", "512,768", "--enable_bucket"]))


@pytest.mark.parametrize("model", ["stable-diffusion-v1-5/stable-diffusion-v1-5", "gpt2", "images"])
def test_hub_ids_and_folders_are_left_to_the_loader(good, model: str) -> None:
    check(parse(TrainNetwork, [*good, "--pretrained_model_name_or_path", model]))


def test_everything_that_must_be_given_is_told_at_once() -> None:
    refusals(
        problems(),
        ("OPT-007", "--pretrained_model_name_or_path"),
        ("OPT-007", "--network_module"),
        ("OPT-007", "--output_dir"),
        ("OPT-007", "--dataset_config", "--train_data_dir"),
    )


CONTRADICTIONS: list[tuple[str, tuple[object, ...]]] = [
    ("--cache_latents --color_aug", ("DATA-018", "--color_aug:", "--cache_latents")),
    ("--cache_latents --random_crop", ("DATA-018", "--random_crop:", "--cache_latents")),
    ("--cache_latents --face_crop_aug_range 2.0,4.0", ("DATA-018", "--face_crop_aug_range:", "--cache_latents")),
    ("--face_crop_aug_range 4.0,2.0", ("OPT-006", "--face_crop_aug_range:", "1 <= a <= b", "'4.0,2.0'")),
    (
        "--network_train_unet_only --network_train_text_encoder_only",
        ("OPT-012", "--network_train_unet_only:", "--network_train_text_encoder_only"),
    ),
    ("--adaptive_noise_scale 0.1", ("OPT-009", "--adaptive_noise_scale:", "--noise_offset 0.1")),
    ("--scale_v_pred_loss_like_noise_pred", ("OPT-008", "--scale_v_pred_loss_like_noise_pred:", "--v_parameterization")),
    ("--network_module networks.lroa", ("LORA-010", "--network_module:", "networks.lroa", "networks.lora?")),
    ("--network_module lycorice.kohya", ("LORA-010", "--network_module:", "lycorice.kohya", "lycoris.kohya?")),
    ("--network_module ./networks/lora.py", ("LORA-010", "--network_module:", "./networks/lora.py", "networks.lora?")),
    ("--network_module no_such.kind", ("LORA-010", "--network_module:", "no_such.kind", "install", "networks.lora")),
    ("--dim_from_weights", ("OPT-009", "--dim_from_weights:", "--network_weights")),
    ("--use_8bit_adam --use_lion_optimizer", ("OPT-008", "--use_8bit_adam:", "--use_lion_optimizer")),
    ("--use_8bit_adam --optimizer_type Lion", ("OPT-008", "--use_8bit_adam:", "AdamW8bit", "--optimizer_type is Lion")),
    ("--optimizer_args weight_decay", ("OPT-010", "--optimizer_args:", "key=value", "'weight_decay'")),
    ("--network_args conv_dim = 4", ("OPT-010", "--network_args:", "key=value", "'conv_dim'")),
    ("--sample_every_n_steps 5", ("OPT-009", "--sample_every_n_steps:", "--sample_prompts")),
    ("--sample_every_n_epochs 5 --sample_prompts promts.txt", ("PATH-001", "--sample_prompts: promts.txt:", "prompts.txt?")),
    ("--min_bucket_reso 1088", ("OPT-017", "--min_bucket_reso: 1088", "--max_bucket_reso 1024")),
    ("--bucket_reso_steps 50", ("OPT-017", "--bucket_reso_steps:", "8 pixels", "not 50", "nearest is 48")),
    ("--resolution 512x512", ("OPT-017", "--resolution:", "512,768", 1, 32768, "'512x512'")),
    ("--resolution 0", ("OPT-017", "--resolution:", "'0'")),
    ("--output_name a/b", ("PATH-009", "--output_name: 'a/b'", "--output_dir")),
    ("--output_name a\\b", ("PATH-009", "--output_name: 'a\\\\b'", "--output_dir")),
    (f"--output_name {'x' * 181}", ("PATH-008", "--output_name:", "181 bytes", 180)),
    (f"--output_name {'é' * 91}", ("PATH-008", "--output_name:", "182 bytes", 180)),
    ("--output_name taken --output_dir .", ("PATH-002", "--output_name: taken.safetensors")),
    ("--spare_dir data.toml", ("PATH-003", "--spare_dir: data.toml")),
    ("--network_dim 32769", ("LORA-008", "--network_dim: networks.lora", 1, 32768)),
    ("--full_disk_wait -1", ("OPT-006", "--full_disk_wait:", 0, "not -1")),
    ("--output_dir data.toml", ("PATH-003", "--output_dir: data.toml")),
    ("--output_dir data.toml/deeper", ("PATH-003", "--output_dir: data.toml/deeper:", "/data.toml is a file")),
    ("--logging_dir data.toml", ("PATH-003", "--logging_dir: data.toml")),
    ("--log_with tensorboard", ("OPT-009", "--log_with: tensorboard", "--logging_dir")),
    ("--dataset_config dta.toml", ("PATH-001", "--dataset_config: dta.toml:", "data.toml?")),
    ("--dataset_config images", ("PATH-002", "--dataset_config: images")),
    ("--network_args init=pissa --scale_weight_norms 1", ("OPT-008", "--scale_weight_norms:", "init=pissa")),
    ("--network_module networks.dora --scale_weight_norms 1", ("OPT-008", "--scale_weight_norms:", "networks.dora")),
    (
        "--network_args init=olora --network_weights model.safetensors --dim_from_weights",
        ("OPT-008", "--dim_from_weights:", "--network_args init=olora"),
    ),
    ("--network_weights lora.safetensors", ("PATH-001", "--network_weights: lora.safetensors:")),
    ("--base_weights model.safetensors nope.pt", ("PATH-001", "--base_weights: nope.pt:")),
    (
        "--pretrained_model_name_or_path modl.safetensors",
        ("MODEL-001", "--pretrained_model_name_or_path: modl.safetensors:", "model.safetensors?"),
    ),
    ("--pretrained_model_name_or_path ./no/where", ("MODEL-001", "--pretrained_model_name_or_path: ./no/where:", "folder no ")),
    ("--vae vae.pt", ("MODEL-001", "--vae: vae.pt:")),
]


@pytest.mark.parametrize(("more", "asked"), CONTRADICTIONS, ids=[more for more, _ in CONTRADICTIONS])
def test_what_cannot_work_is_told_in_a_line(good, more: str, asked: tuple[str, ...]) -> None:
    lines = problems(*good, *more.split())
    refusal(lines, *asked)
    assert all("\n" not in line for line in lines)


OLD_FORM: list[tuple[str, tuple[object, ...]]] = [
    ("--train_data_dir imags --resolution 512", ("PATH-001", "--train_data_dir: imags:", "images?")),
    ("--train_data_dir data.toml --resolution 512", ("PATH-003", "--train_data_dir: data.toml")),
    ("--train_data_dir images", ("OPT-007", "--resolution is missing", "--resolution 512")),
    ("--train_data_dir images --resolution 500", ("OPT-017", "--resolution:", "8 pixels", "not 500", "nearest is 496")),
    ("--reg_data_dir images", ("OPT-007", "--dataset_config or --train_data_dir")),
]


@pytest.mark.parametrize(("more", "asked"), OLD_FORM, ids=[more for more, _ in OLD_FORM])
def test_what_cannot_work_without_a_dataset_config_is_told(good, more: str, asked: tuple[str, ...]) -> None:
    refusal(problems(*good[:-2], *more.split()), *asked)


def test_fp16_on_a_cpu_that_is_asked_for_is_refused(good, monkeypatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    check(parse(TrainNetwork, [*good, "--mixed_precision", "fp16"]))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # as `accelerate launch --cpu` sets it
    check(parse(TrainNetwork, [*good, "--mixed_precision", "bf16"]))
    (line,) = problems(*good, "--mixed_precision", "fp16")
    assert line.startswith("--mixed_precision fp16: a CPU computes fp16 many times slower") and "bf16 or no" in line


def test_a_name_with_a_line_break_is_told(good) -> None:
    refusal(problems(*good, "--output_name", "cat\n")[:1], "PATH-009", "--output_name", "line break")


def test_all_that_cannot_work_is_told_together(good) -> None:
    assert len(problems(*good, "--vae", "vae.pt", "--output_name", "a/b", "--full_fp16", "--full_bf16")) == 3


def test_the_line_names_the_file_when_the_value_stood_there(good) -> None:
    Path("cfg.toml").write_text("[x]\nvae = 'nope.pt'\n", encoding="utf-8")
    refusal(problems(*good, "--config_file", "cfg")[:1], "MODEL-001", "--config_file cfg.toml, key [x] vae: nope.pt:")


@pytest.mark.skipif(os.name == "nt", reason="rights on folders work differently")
def test_an_output_folder_without_the_right_to_write_is_told(good, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode, **more: False)  # root may write anywhere
    refusal(problems(*good)[:1], "PATH-005", "--output_dir", "permission")


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("--sample_prompts prompts.txt", ("--sample_prompts", "no samples")),
        ("--train_data_dir gone --in_json gone.json", ("--train_data_dir and --in_json", "--dataset_config")),
        ("--base_weights model.safetensors model.safetensors --base_weights_multiplier 1", ("--base_weights", "strength 1")),
        ("--base_weights model.safetensors --base_weights_multiplier 1 2", ("2 multipliers", "1 --base_weights")),
        ("--save_last_n_epochs 2", ("--save_last_n_epochs:", "--save_every_n_epochs")),
        ("--resume_from_huggingface", ("--resume_from_huggingface:", "--resume")),
        ("--huggingface_repo_id me/x --save_state_to_huggingface", ("--save_state_to_huggingface:", "--save_state")),
        ("--min_snr_gamma 5 --debiased_estimation_loss", ("--debiased_estimation_loss:", "--min_snr_gamma")),
        ("--noise_offset_random_strength", ("--noise_offset_random_strength:", "--noise_offset")),
        ("--ip_noise_gamma_random_strength", ("--ip_noise_gamma_random_strength:", "--ip_noise_gamma")),
        ("--conditioning_data_dir images --masked_loss", ("--conditioning_data_dir:", "--train_data_dir")),
        ("--network_train_unet_only --text_encoder_lr 1e-4", ("--text_encoder_lr:", "--network_train_unet_only")),
        ("--network_train_text_encoder_only --unet_lr 1e-4", ("--unet_lr:", "--network_train_text_encoder_only")),
        ("--output_name a.safetensors", ("--output_name", "without the extension")),
        ("--spare_dir ./out", ("--spare_dir:", "--output_dir")),
        ("--huggingface_repo_id me/x --huggingface_repo_visibility pubic", ("'pubic'", "private")),
        ("--xformers --sdpa", ("--xformers:", "--sdpa is ignored")),
        ("--xformers --mem_eff_attn", ("--mem_eff_attn:", "--xformers is ignored")),
        ("--noise_offset 0.1 --multires_noise_iterations 6", ("--noise_offset:", "--multires_noise_iterations", "both")),
        ("--noise_offset 0 --adaptive_noise_scale 0.1", ("--adaptive_noise_scale:", "--noise_offset 0")),
        ("--multires_noise_iterations 6 --multires_noise_discount 0", ("--multires_noise_discount: 0",)),
        ("--huber_c 0.2", ("--huber_c:", "--loss_type huber")),
        ("--highvram", ("--highvram:", "no effect")),
        ("--sample_every_n_epochs 1 --sample_prompts made/later.txt", ("--sample_prompts", "made/later.txt", "no samples")),
        ("--deepspeed --zero_stage 3 --offload_param_device cpu", ("--deepspeed:", "DeepSpeed", "not supported")),
    ],
)
def test_what_is_hardly_meant_so_is_remarked_on(good, warnings, more: str, names: tuple[str, ...]) -> None:
    message(warnings(*good, *more.split()), *names)


def test_a_word_to_begin_with_is_not_used_beside_weights(good, heard) -> None:
    Path("word.pt").touch()
    words = "--token_string shs --init_word cat --weights word.pt --save_model_as pt".split()
    at = good.index("--network_module")
    check(parse(TrainTextualInversion, [*good[:at], *good[at + 2 :], *words]))
    message(heard.lines, "--init_word:", "--weights")


def test_regularization_images_beside_metadata_are_not_used_and_told(good, warnings) -> None:
    text = warnings(*good[:-2], *"--train_data_dir images --reg_data_dir images --in_json data.toml --resolution 512".split())
    message(text, "--reg_data_dir:", "--in_json")


def test_options_that_are_idle_for_one_reason_are_told_in_one_line(good, warnings) -> None:
    (line,) = warnings(*good, "--deepspeed", "--zero_stage", "3", "--zero3_init_flag").splitlines()
    message(line, "--deepspeed:", "--zero_stage, --zero3_init_flag")


@pytest.mark.parametrize(
    "more",
    ["--huber_c 0.1 --huber_schedule snr --huber_scale 1", "--zero_stage 2", "--sample_prompts prompts.txt --sample_every_n_steps 1"],
)
def test_an_option_without_effect_is_not_told_where_it_has_its_default_value(good, warnings, more: str) -> None:
    assert warnings(*good, *more.split()) == ""


def test_a_file_of_prompts_that_is_missing_stops_no_run_that_makes_no_samples(good, warnings) -> None:
    message(warnings(*good, "--sample_prompts", "promts.txt"), "--sample_prompts:", "no samples")


@pytest.mark.parametrize(
    ("name", "missing"), [("networks.lroa", "networks.lroa"), ("lycoris.kohyaa", "lycoris.kohyaa"), ("nope.x", "nope.x")]
)
def test_a_network_module_that_is_not_there_is_told(good, name: str, missing: str) -> None:
    refusal(problems(*good, "--network_module", name), "LORA-010", "--network_module", missing)


@pytest.mark.parametrize(
    ("spec", "flags", "uses"),
    [
        (TrainNetwork, "--xformers", True),
        (TrainNetwork, "--xformers --sdpa", True),
        (TrainNetwork, "--xformers --mem_eff_attn", False),
        (FineTune, "--diffusers_xformers --mem_eff_attn", True),
        (FineTune, "--mem_eff_attn --xformers", False),
    ],
)
def test_of_several_ways_of_attention_the_one_of_sd_scripts_is_used(spec: type, flags: str, uses: bool) -> None:
    assert parse(spec, flags.split()).uses_xformers is uses
