"""The options of noise and loss as a user gives them: each acts, masks decide what is trained, contradictions are one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_network
from library.files import list_images
from tests.messages import message, refusals
from tests.scripts.running import largest_difference, tensors_equal
from tests.scripts.starting import dataset, start


@pytest.fixture
def train(tiny_v1: Path, tiny_v2: Path, photos: Path, tmp_path: Path):
    """`train(name, subset, **options)`: the file of a LoRA after two updates, or the exit code where there is none."""

    def run(name: str, subset: str = "", **changes: object) -> Path | int:
        v = bool(changes.get("v_parameterization"))
        options: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v2 if v else tiny_v1,
            "v2": v,
            "dataset_config": dataset(tmp_path / f"{name}.toml", photos, subset="flip_aug = true\n" + subset),
            "output_dir": tmp_path / name,
            "network_module": "networks.lora",
            "network_train_unet_only": True,
            "optimizer_type": "SGD",
            "max_grad_norm": 0,
            "learning_rate": 1.0,
            "max_train_steps": 2,
            "max_data_loader_n_workers": 0,
            "cache_latents": True,
            "save_precision": "float",
            "seed": 7,
        }
        code = start(train_network.main, **{**options, **changes})
        return code or tmp_path / name / "last.safetensors"

    return run


def masks(folder: Path, photos: Path, brightness: int) -> str:
    """A mask of one brightness for each photograph; the subset's key for them."""
    folder.mkdir()
    for photo in list_images(photos):
        with Image.open(photo) as image:
            Image.new("L", image.size, brightness).save(folder / f"{photo.stem}.png")
    return f"conditioning_data_dir = '{folder}'\n"


def test_white_masks_train_everything_black_ones_are_refused_and_grey_ones_count_in_proportion(train, photos: Path, tmp_path: Path) -> None:
    plain = train("plain")
    white = train("white", masks(tmp_path / "white masks", photos, 255), masked_loss=True)
    assert tensors_equal(plain, white)
    assert train("black", masks(tmp_path / "black masks", photos, 0), masked_loss=True, cache_latents=False) == 2  # nothing to train
    assert not (tmp_path / "black").exists()
    # 51/255 of the loss at five times the rate, up to second order
    grey = train("grey", masks(tmp_path / "grey masks", photos, 51), masked_loss=True, max_train_steps=1, learning_rate=5.0)
    once = train("once", max_train_steps=1)
    moved = max(float(tensor.abs().max()) for name, tensor in load_file(once).items() if "lora_up" in name)
    assert moved > 0 and largest_difference(grey, once) < 1e-3 * moved


def test_each_option_changes_what_is_learnt(train) -> None:
    without = train("without", max_train_steps=1)
    for changes in (
        {"ip_noise_gamma": 0.1},
        {"debiased_estimation_loss": True},
        {"v_pred_like_loss": 0.5},
        {"loss_type": "smooth_l1", "huber_schedule": "constant", "huber_c": 0.5},
        {"min_timestep": 490},
        {"max_timestep": 510},
    ):
        assert largest_difference(train("with", max_train_steps=1, **changes), without) > 0, changes


def test_samples_are_drawn_with_the_trainings_schedule_and_on_demand_with_the_average(train, monkeypatch, tmp_path: Path) -> None:
    schedules, seen = [], []

    def generate(model, settings, device):
        schedules.append(model.zero_terminal_snr)
        patched = model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
        (hook,) = patched._forward_hooks.values()  # the LoRA layer's
        seen.append(hook.__self__.lora_up.weight.detach().clone())
        raise RuntimeError("seen enough")

    monkeypatch.setattr("library.model.drawing.generate.generate", generate)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat --w 64 --h 64 --s 1\n", encoding="utf-8")
    common = {"v_parameterization": True, "sample_prompts": prompts, "sample_every_n_steps": 2, "ema_decay": 0.9}
    one = train("one", **common, zero_terminal_snr=True, ema_for_samples=True)
    other = train("other", **common, zero_terminal_snr=True)
    assert schedules == [True, True] and tensors_equal(one, other)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight"
    average, trained = (load_file(file)[name] for file in (one.with_name("last-ema.safetensors"), one))
    assert torch.equal(seen[0], average) and torch.equal(seen[1], trained) and not torch.equal(average, trained)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"v_parameterization": True, "v_pred_like_loss": 0.1}, ("OPT-008", "--v_pred_like_loss:", "--v_parameterization")),
        ({"zero_terminal_snr": True, "v_pred_like_loss": 0.1}, ("OPT-008", "--v_pred_like_loss:", "--zero_terminal_snr")),
        ({"adaptive_noise_scale": 0.1}, ("OPT-009", "--adaptive_noise_scale:", "--noise_offset")),
        ({"clip_skip": 3}, ("MODEL-015", "--clip_skip 3:", "tiny_v1.safetensors", "2 layers")),
        ({"min_timestep": 700, "max_timestep": 700}, ("OPT-008", "--min_timestep: 700", "--max_timestep 700")),
        ({"loss_type": "huber", "huber_c": 0}, ("OPT-006", "--huber_c:", "over 0", "at most 1", "not 0")),
        ({"ema_decay": 1}, ("OPT-006", "--ema_decay:", "below 1")),
    ],
)
def test_contradictions_are_told_in_one_line(train, changes, asked, capsys) -> None:
    assert train("out", **changes) == 2
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")], asked)


def test_a_gamma_of_0_is_no_weighting_beside_any_other(train) -> None:
    without = train("without", max_train_steps=1, debiased_estimation_loss=True)
    assert tensors_equal(train("with", max_train_steps=1, debiased_estimation_loss=True, min_snr_gamma=0), without)


def test_masked_loss_without_masks_trains_the_whole_images_and_says_so(train, capsys) -> None:
    plain = train("plain", max_train_steps=1)
    capsys.readouterr()
    train("planned", masked_loss=True, dry_run=True)
    message(capsys.readouterr().out, "--masked_loss", "nothing is masked")
    assert tensors_equal(train("masked", max_train_steps=1, masked_loss=True), plain)
    message(capsys.readouterr().err, "--masked_loss", "nothing is masked")


def test_pairs_that_sd_scripts_takes_run(train, capsys) -> None:
    more = {"ip_noise_gamma_random_strength": True, "noise_offset_random_strength": True, "save_state_to_huggingface": True}
    plain = train("plain", max_train_steps=2)
    assert tensors_equal(train("idle", max_train_steps=2, **more), plain)
    assert not tensors_equal(train("weights", max_train_steps=2, min_snr_gamma=5, debiased_estimation_loss=True), plain)
    assert not tensors_equal(train("slow", max_train_steps=2, lr_scheduler="constant_with_warmup", lr_warmup_steps=50), plain)
    message(capsys.readouterr().err, "--lr_warmup_steps 50", "2 updates")


def test_what_has_no_effect_and_zero_terminal_snr_without_v_are_warned_of(train, capsys) -> None:
    assert train("out", huber_c=0.2, zero_terminal_snr=True, ema_for_samples=True, clip_skip=3) == 2  # which ends it before training
    output = capsys.readouterr().err
    message(output, "--huber_c:", "--loss_type huber or smooth_l1")
    message(output, "--zero_terminal_snr:", "noise")
    message(output, "--ema_for_samples:", "--ema_decay")
