"""What cannot work is found before anything heavy is loaded, all of it at once, and nothing is written meanwhile."""

import os
from pathlib import Path

import pytest

from library.errors import UserError
from library.options.groups.scripts import FineTune, TrainNetwork, TrainTextualInversion
from library.options.reading.parse import parse
from library.options.rules.check import check


@pytest.fixture
def good(tmp_path: Path, monkeypatch) -> list[str]:
    """A command line that passes; the working folder holds what it names."""
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").write_bytes(b"")
    Path("data.toml").write_text("", encoding="utf-8")
    Path("prompts.txt").write_text("a cat\n", encoding="utf-8")
    Path("images").mkdir()
    Path("taken.safetensors").mkdir()
    names = ("--pretrained_model_name_or_path", "model.safetensors", "--output_dir", "out", "--network_module", "networks.lora")
    return [*names, "--dataset_config", "data.toml"]


def problems(*argv: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as fault:
        check(parse(TrainNetwork, argv))
    return fault.value.problems


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
    found = problems()
    assert [line.partition(" is missing:")[0] for line in found] == [
        "--pretrained_model_name_or_path",
        "--network_module",
        "--output_dir",
        "--dataset_config or --train_data_dir",
    ]


CONTRADICTIONS = [
    ("--cache_latents --color_aug", "--color_aug: changes the images in each epoch, so it cannot be used with --cache_latents"),
    ("--cache_latents --random_crop", "--random_crop: changes the images in each epoch"),
    ("--cache_latents --face_crop_aug_range 2.0,4.0", "--face_crop_aug_range: changes the images in each epoch"),
    ("--face_crop_aug_range 4.0,2.0", "--face_crop_aug_range: expected two numbers a,b"),
    ("--network_train_unet_only --network_train_text_encoder_only", "--network_train_unet_only: cannot be used with"),
    ("--adaptive_noise_scale 0.1", "--adaptive_noise_scale: changes the noise offset, and none is set"),
    ("--scale_v_pred_loss_like_noise_pred", "--scale_v_pred_loss_like_noise_pred: is only for models trained with --v_parameterization"),
    ("--network_module networks.lroa", "--network_module: module networks.lroa not found; did you mean networks.lora?"),
    ("--network_module lycorice.kohya", "--network_module: module lycorice.kohya not found; did you mean lycoris.kohya?"),
    ("--network_module ./networks/lora.py", "--network_module: module ./networks/lora.py not found; did you mean networks.lora?"),
    ("--network_module no_such.kind", "module no_such.kind not found; install its package first, or use networks.lora"),
    ("--dim_from_weights", "--dim_from_weights: takes the rank from --network_weights, which is missing"),
    ("--use_8bit_adam --use_lion_optimizer", "--use_8bit_adam: cannot be used together with --use_lion_optimizer"),
    ("--use_8bit_adam --optimizer_type Lion", "--use_8bit_adam: means AdamW8bit, but --optimizer_type is Lion"),
    ("--optimizer_args weight_decay", "--optimizer_args: expected key=value, not 'weight_decay'"),
    ("--network_args conv_dim = 4", "--network_args: expected key=value, not 'conv_dim'"),
    ("--sample_every_n_steps 5", "--sample_every_n_steps: needs --sample_prompts"),
    ("--sample_every_n_epochs 5 --sample_prompts promts.txt", "--sample_prompts: promts.txt: no such file; did you mean prompts.txt?"),
    ("--min_bucket_reso 1088", "--min_bucket_reso: 1088 is greater than --max_bucket_reso 1024"),
    ("--bucket_reso_steps 50", "--bucket_reso_steps: must be a multiple of 8 pixels, not 50; the nearest is 48"),
    ("--resolution 512x512", "--resolution: expected pixels as in 512, or width,height as in 512,768, each from 1 to 32768, not '512x512'"),
    ("--resolution 0", "--resolution: expected pixels"),
    ("--output_name a/b", "--output_name: 'a/b' cannot be a file name"),
    ("--output_name a\\b", "--output_name: 'a\\\\b' cannot be a file name"),
    (f"--output_name {'x' * 181}", "--output_name: has 181 bytes, and at most 180 leave space"),
    (f"--output_name {'é' * 91}", "--output_name: has 182 bytes"),
    ("--output_name taken --output_dir .", "taken.safetensors is a folder, and the result would have the same name"),
    ("--spare_dir data.toml", "--spare_dir: data.toml is a file, not a folder"),
    ("--network_dim 32769", "--network_dim: networks.lora takes a rank from 1 to 32768"),
    ("--full_disk_wait -1", "--full_disk_wait: expected a number from 0 to"),
    ("--output_dir data.toml", "data.toml is a file, not a folder"),
    ("--output_dir data.toml/deeper", "data.toml is a file, not a folder"),
    ("--logging_dir data.toml", "data.toml is a file, not a folder"),
    ("--log_with tensorboard", "--log_with: tensorboard needs --logging_dir"),
    ("--dataset_config dta.toml", "--dataset_config: dta.toml: no such file; did you mean data.toml?"),
    ("--dataset_config images", "--dataset_config: images is a folder; name the file itself"),
    (
        "--network_args init=pissa --scale_weight_norms 1",
        "--scale_weight_norms: limits products of two matrices, but this network trains from a start in the model (init=pissa)",
    ),
    ("--network_module networks.dora --scale_weight_norms 1", "this network trains sizes of weights (networks.dora); remove one"),
    (
        "--network_args init=olora --network_weights model.safetensors --dim_from_weights",
        "--dim_from_weights: starts from the file, but --network_args init=olora from the model",
    ),
    ("--network_weights lora.safetensors", "--network_weights: lora.safetensors: no such file"),
    ("--base_weights model.safetensors nope.pt", "--base_weights: nope.pt: no such file"),
    ("--pretrained_model_name_or_path modl.safetensors", "modl.safetensors: no such file; did you mean model.safetensors?"),
    ("--pretrained_model_name_or_path ./no/where", "./no/where: no such folder (folder no does not exist)"),
    ("--vae vae.pt", "--vae: vae.pt: no such file"),
]


@pytest.mark.parametrize(("more", "words"), CONTRADICTIONS, ids=[more for more, _ in CONTRADICTIONS])
def test_what_cannot_work_is_told_in_a_line(good, more: str, words: str) -> None:
    found = problems(*good, *more.split())
    assert any(words in line for line in found), found
    assert all("\n" not in line for line in found)


OLD_FORM = [
    ("--train_data_dir imags --resolution 512", "--train_data_dir: imags: no such folder; did you mean images?"),
    ("--train_data_dir data.toml --resolution 512", "--train_data_dir: data.toml is a file; name the folder"),
    ("--train_data_dir images", "--resolution is missing"),
    ("--train_data_dir images --resolution 500", "each side must be a multiple of 8 pixels, not 500; the nearest is 496"),
    ("--reg_data_dir images", "--dataset_config or --train_data_dir is missing"),
]


@pytest.mark.parametrize(("more", "words"), OLD_FORM, ids=[more for more, _ in OLD_FORM])
def test_what_cannot_work_without_a_dataset_config_is_told(good, more: str, words: str) -> None:
    found = problems(*good[:-2], *more.split())
    assert any(words in line for line in found), found


def test_fp16_on_a_cpu_that_is_asked_for_is_refused(good, monkeypatch) -> None:
    check(parse(TrainNetwork, [*good, "--mixed_precision", "fp16"]))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # as `accelerate launch --cpu` sets it
    check(parse(TrainNetwork, [*good, "--mixed_precision", "bf16"]))
    (line,) = problems(*good, "--mixed_precision", "fp16")
    assert line.startswith("--mixed_precision: fp16 is many times slower") and "bf16 or no" in line


def test_a_name_with_a_line_break_is_told(good) -> None:
    assert "contains a line break, another control character" in problems(*good, "--output_name", "cat\n")[0]


def test_all_that_cannot_work_is_told_together(good) -> None:
    assert len(problems(*good, "--vae", "vae.pt", "--output_name", "a/b", "--full_fp16", "--full_bf16")) == 3


def test_the_line_names_the_file_when_the_value_stood_there(good) -> None:
    Path("cfg.toml").write_text("[x]\nvae = 'nope.pt'\n", encoding="utf-8")
    assert problems(*good, "--config_file", "cfg")[0].startswith("--config_file cfg.toml, key [x] vae: nope.pt: no such file")


@pytest.mark.skipif(os.name == "nt", reason="rights on folders work otherwise")
def test_an_output_folder_without_the_right_to_write_is_told(good, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "no permission to write" in problems(*good)[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--sample_prompts prompts.txt", "no samples are generated"),
        ("--train_data_dir gone --in_json gone.json", "--train_data_dir and --in_json: not used, since --dataset_config names"),
        ("--base_weights model.safetensors model.safetensors --base_weights_multiplier 1", "use strength 1"),
        (
            "--base_weights model.safetensors --base_weights_multiplier 1 2",
            "2 multipliers for 1 --base_weights, so only the first are used",
        ),
        ("--save_last_n_epochs 2", "has no effect without --save_every_n_epochs"),
        ("--resume_from_huggingface", "--resume_from_huggingface: has no effect without --resume"),
        ("--huggingface_repo_id me/x --save_state_to_huggingface", "--save_state_to_huggingface: has no effect without --save_state"),
        (
            "--min_snr_gamma 5 --debiased_estimation_loss",
            "--debiased_estimation_loss: multiplies its weights with those of --min_snr_gamma",
        ),
        ("--noise_offset_random_strength", "has no effect: it chooses strengths up to --noise_offset, which is missing"),
        ("--ip_noise_gamma_random_strength", "has no effect: it chooses strengths up to --ip_noise_gamma, which is missing"),
        (
            "--conditioning_data_dir images --masked_loss",
            "--conditioning_data_dir: not used, since it only applies to --train_data_dir; write",
        ),
        ("--network_train_unet_only --text_encoder_lr 1e-4", "--text_encoder_lr: has no effect with --network_train_unet_only"),
        ("--network_train_text_encoder_only --unet_lr 1e-4", "--unet_lr: has no effect with --network_train_text_encoder_only"),
        ("--output_name a.safetensors", "write it without the extension"),
        ("--spare_dir ./out", "--spare_dir: has no effect, it is --output_dir"),
        ("--huggingface_repo_id me/x --huggingface_repo_visibility pubic", "'pubic' is not public, so a new repository is made private"),
        ("--xformers --sdpa", "--xformers: is used, so --sdpa is ignored"),
        ("--xformers --mem_eff_attn", "--mem_eff_attn: is used, so --xformers is ignored"),
        (
            "--noise_offset 0.1 --multires_noise_iterations 6",
            "--noise_offset: --multires_noise_iterations serves the same purpose, and both apply",
        ),
        ("--noise_offset 0 --adaptive_noise_scale 0.1", "--adaptive_noise_scale: has no effect with --noise_offset 0"),
        ("--multires_noise_iterations 6 --multires_noise_discount 0", "--multires_noise_discount: 0 removes"),
        ("--huber_c 0.2", "--huber_c: has no effect without --loss_type huber"),
        ("--highvram", "--highvram: no effect here: "),
        (
            "--sample_every_n_epochs 1 --sample_prompts made/later.txt",
            "made/later.txt does not exist; no samples are generated until it does",
        ),
        ("--deepspeed --zero_stage 3 --offload_param_device cpu", "--deepspeed: no effect here: DeepSpeed is not supported"),
    ],
)
def test_what_is_hardly_meant_so_is_remarked_on(good, warnings, more: str, words: str) -> None:
    assert words in warnings(*good, *more.split())


def test_a_word_to_begin_with_is_not_used_beside_weights(good, heard) -> None:
    Path("word.pt").touch()
    words = "--token_string shs --init_word cat --weights word.pt --save_model_as pt".split()
    at = good.index("--network_module")
    check(parse(TrainTextualInversion, [*good[:at], *good[at + 2 :], *words]))
    assert "--init_word: not used, since training starts from --weights" in heard.text


def test_regularization_images_beside_metadata_are_not_used_and_told(good, warnings) -> None:
    said = warnings(*good[:-2], *"--train_data_dir images --reg_data_dir images --in_json data.toml --resolution 512".split())
    assert "--reg_data_dir: not used, since --in_json has no regularization images" in said


def test_options_that_are_idle_for_one_reason_are_told_in_one_line(good, warnings) -> None:
    said = warnings(*good, "--deepspeed", "--zero_stage", "3", "--zero3_init_flag")
    assert len(said.splitlines()) == 1 and "(so with --zero_stage, --zero3_init_flag); remove it" in said


@pytest.mark.parametrize(
    "more",
    ["--huber_c 0.1 --huber_schedule snr --huber_scale 1", "--zero_stage 2", "--sample_prompts prompts.txt --sample_every_n_steps 1"],
)
def test_an_option_without_effect_is_not_told_where_it_has_its_default_value(good, warnings, more: str) -> None:
    assert warnings(*good, *more.split()) == ""


def test_a_file_of_prompts_that_is_missing_stops_no_run_that_makes_no_samples(good, warnings) -> None:
    assert "no samples are generated" in warnings(*good, "--sample_prompts", "promts.txt")


@pytest.mark.parametrize(
    ("name", "missing"), [("networks.lroa", "networks.lroa"), ("lycoris.kohyaa", "lycoris.kohyaa"), ("nope.x", "nope.x")]
)
def test_a_network_module_that_is_not_there_is_told(good, name: str, missing: str) -> None:
    assert any(f"module {missing} not found" in line for line in problems(*good, "--network_module", name))


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
