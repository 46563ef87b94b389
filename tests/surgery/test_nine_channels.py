"""The tools, by their commands, on inpainting models and on LoRAs that have a module for the first convolution of nine channels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.model.load import load
from networks import check_lora_weights, extract_lora_from_models, merge_lora, resize_lora, svd_merge_lora
from tests.messages import message, refusals
from tests.scripts.running import run_in_process
from tests.surgery.conftest import deltas, relative, write_random
from tools import convert_diffusers20_original_sd

FIRST = "lora_unet_conv_in"
FIRST_WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def nine(tiny_inpainting: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LoRAs "a" and "b" of the inpainting model, with a module for its first convolution; "four" with one for an ordinary model's."""
    folder, model = tmp_path_factory.mktemp("nine"), load(tiny_inpainting)
    files = {}
    for seed, (name, channels) in enumerate((("a", 9), ("b", 9), ("four", 4))):
        path = files[name] = folder / f"{name}.safetensors"
        write_random(path, model.text_encoder, model.unet, 4, 2.0, seed, conv_dim="2", conv_alpha="1")
        noise = torch.Generator().manual_seed(seed)
        down, up = (0.05 * torch.randn(*shape, generator=noise) for shape in ((2, channels, 3, 3), (32, 2, 1, 1)))
        first = {f"{FIRST}.lora_down.weight": down, f"{FIRST}.lora_up.weight": up, f"{FIRST}.alpha": torch.tensor(1.0)}
        save_file(load_file(path) | first, path)
    return files


@pytest.mark.parametrize("other", ["b", "four"])
@pytest.mark.parametrize("way", ["svd", "concat"])
def test_two_loras_become_their_weighted_sum(way: str, other: str, nine: dict[str, Path], tmp_path: Path) -> None:
    """A module for four channels leaves the five others as they are."""
    path = tmp_path / "both.safetensors"
    main, *ranks = (svd_merge_lora.main, "--new_rank", 8, "--new_conv_rank", 4) if way == "svd" else (merge_lora.main, "--concat")
    assert run_in_process(main, "--models", nine[other], nine["a"], "--ratios", -0.4, 0.8, *ranks, "--save_to", path) == 0
    actual, one, two = deltas(path), deltas(nine["a"]), deltas(nine[other])
    of_nine = torch.zeros(32, 9, 3, 3)
    of_nine[:, : two[FIRST].shape[1]] = two[FIRST]
    two[FIRST] = of_nine
    assert actual.keys() == one.keys() and one[FIRST].shape == (32, 9, 3, 3)
    assert max(relative(actual[key], 0.8 * one[key] - 0.4 * two[key]) for key in one) < 1e-4


def test_averaged_numbers_may_be_of_four_and_nine_channels(nine: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    assert run_in_process(merge_lora.main, "--models", nine["a"], nine["four"], "--ratios", 0.5, 0.5, "--save_to", path) == 0
    down, one, two = (load_file(file)[f"{FIRST}.lora_down.weight"] for file in (path, nine["a"], nine["four"]))
    assert torch.allclose(down[:, :4], (one[:, :4] + two) / 2) and torch.allclose(down[:, 4:], one[:, 4:] / 2)


@pytest.mark.parametrize("way", [["--concat"], []])
def test_loras_of_models_of_other_sizes_are_refused_in_one_line(
    way: list[str], nine: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_another = tmp_path / "another.safetensors"
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    weights = load_file(nine["a"])
    weights[f"{key}.lora_down.weight"] = torch.ones(4, weights[f"{key}.lora_down.weight"].shape[1] + 8)
    save_file(weights, of_another)
    argv = ["--models", nine["a"], of_another, "--ratios", 0.5, 0.5, *way, "--save_to", tmp_path / "both.safetensors"]
    assert run_in_process(merge_lora.main, *argv) == 2
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error")], ("TOOL-005", "--models", key))
    assert not (tmp_path / "both.safetensors").exists()


def test_resized_it_is_the_best_of_the_rank(nine: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    assert run_in_process(resize_lora.main, "--model", nine["a"], "--new_rank", 1, "--new_conv_rank", 1, "--save_to", path) == 0
    before, after = deltas(nine["a"])[FIRST].flatten(1), deltas(path)[FIRST].flatten(1)
    left, values, right = torch.linalg.svd(before.double(), full_matrices=False)
    assert relative(after.double(), values[0] * torch.outer(left[:, 0], right[0])) < 1e-4
    assert run_in_process(check_lora_weights.main, path) == 0


def test_merged_into_the_model_and_extracted_it_comes_back(
    nine: dict[str, Path], tiny_inpainting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All except the first convolution, which no LoRA of this suite has: what is lost with it is reported."""
    merged, path = tmp_path / "merged.safetensors", tmp_path / "extracted.safetensors"
    argv = ["--sd_model", tiny_inpainting, "--models", nine["a"], "--ratios", 0.8, "--save_to", merged]
    assert run_in_process(merge_lora.main, *argv) == 0
    models = ["--model_org", tiny_inpainting, "--model_tuned", merged, "--dim", 4, "--conv_dim", 2, "--min_diff", 0]
    assert run_in_process(extract_lora_from_models.main, *models, "--save_to", path) == 0
    wanted, actual = deltas(nine["a"]), deltas(path)
    assert wanted.keys() - actual.keys() == {FIRST} and actual.keys() < wanted.keys()
    assert max(relative(actual[key], 0.8 * wanted[key]) for key in actual) < 1e-3
    change = load_file(merged)[FIRST_WEIGHT].float() - load_file(tiny_inpainting)[FIRST_WEIGHT].float()
    assert change.shape[1] == 9 and relative(change, 0.8 * wanted[FIRST]) < 1e-3
    lost = float(change.norm() / torch.stack([0.8 * delta.norm() for delta in wanted.values()]).norm())
    message(capsys.readouterr().err, f"{100 * lost:.1f}%")


def test_an_ordinary_and_an_inpainting_model_make_no_lora(
    tiny_v1: Path, tiny_inpainting: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model_org", tiny_v1, "--model_tuned", tiny_inpainting, "--dim", 4, "--save_to", tmp_path / "x.safetensors"]
    assert run_in_process(extract_lora_from_models.main, *models) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "(32, 9, 3, 3)" in line and "(32, 4, 3, 3)" in line


def test_converted_there_and_back_the_networks_are_the_same(tiny_inpainting: Path, tmp_path: Path) -> None:
    folder, back, pickled, last = (tmp_path / name for name in ("folder", "back.safetensors", "back.ckpt", "last.safetensors"))
    convert = convert_diffusers20_original_sd.main
    for source, target, *more in ((tiny_inpainting, folder, "--use_safetensors"), (folder, back), (back, pickled), (pickled, last)):
        assert run_in_process(convert, source, target, *more) == 0
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    before, after = load_file(tiny_inpainting), load_file(last)
    networks = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    assert after[FIRST_WEIGHT].shape[1] == 9 and {name for name in before if name.startswith(networks)} == set(after)
    assert all(torch.equal(before[name], after[name]) for name in after)
