"""networks/merge_lora.py into models: the same image as the LoRA applied, the same weights in every layout, and an honest receipt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from library.containers.weights_file import open_weights
from library.model.load import load
from networks.lora import create_network_from_weights
from networks.merge_lora import main
from tests.messages import message, refusal
from tests.oracles import our_image
from tests.scripts.running import run_in_process
from tests.small_models import write_diffusers
from tests.surgery.conftest import write_random


def merge(*argv: object) -> int:
    return run_in_process(main, *argv)


def in_memory(model: Path, v2: bool, *sources: tuple[Path, float]):
    """The model with LoRAs merged by the network's own method, which other tests compare with Diffusers."""
    loaded = load(model, v2=v2)
    for path, ratio in sources:
        network, weights = create_network_from_weights(ratio, path, None, loaded.text_encoder, loaded.unet, for_inference=True)
        network.merge_to(loaded.text_encoder, loaded.unet, weights)
    return loaded


def difference(one, other) -> float:
    """Largest difference of the weights of two loaded models."""
    return max(
        float((tensor.float() - getattr(other, part).state_dict()[name].float()).abs().max())
        for part in ("unet", "text_encoder", "vae")
        for name, tensor in getattr(one, part).state_dict().items()
    )


def test_the_merged_model_draws_what_the_model_with_the_lora_applied_draws(tiny_v1: Path, files, merged: Path) -> None:
    """Tolerance: one step of 255 in a pixel."""
    hooked = load(tiny_v1)
    without = our_image(hooked, "a cat")
    network, _ = create_network_from_weights(0.8, files["c"], None, hooked.text_encoder, hooked.unet, for_inference=True)
    network.apply_to(hooked.text_encoder, hooked.unet)
    applied, drawn = our_image(hooked, "a cat"), our_image(load(merged), "a cat")
    assert np.abs(applied - drawn).max() <= 1 < np.abs(applied - without).max()


def test_weights_are_the_exact_sum_and_everything_else_is_as_it_was(tiny_v1: Path, files, tmp_path: Path, capsys) -> None:
    path = tmp_path / "new" / "two.safetensors"
    assert merge("--sd_model", tiny_v1, "--models", files["a"], files["c"], "--ratios", 0.5, "-0.25", "--save_to", path, "--verbose") == 0
    assert difference(load(path), in_memory(tiny_v1, False, (files["a"], 0.5), (files["c"], -0.25))) < 1e-6
    before, after = open_weights(tiny_v1, "x"), open_weights(path, "x")
    assert before.infos.keys() == after.infos.keys()
    assert after.infos["betas"].dtype == "F32" and after.infos["first_stage_model.decoder.conv_in.weight"].dtype == "F32"
    untouched = [name for name in before.infos if name.startswith(("first_stage", "betas", "model_ema"))]
    assert all(torch.equal(tensor.float(), dict(before.read([name]))[name].float()) for name, tensor in after.read(untouched))
    with safe_open(path, "pt") as file:
        assert file.metadata()["merged_networks"] == "a.safetensors: 0.5, c.safetensors: -0.25"
    output = capsys.readouterr().out.splitlines()
    modules = len({name.split(".")[0] for name in load_file(files["c"])})
    assert output[0].startswith(f"receipt: {modules} modules") and sum("lora_" in line for line in output) == modules + 1


def test_v2_whose_text_encoder_keeps_three_matrices_as_one(tiny_v2: Path, tmp_path: Path, capsys) -> None:
    model = load(tiny_v2, v2=True)
    lora = write_random(tmp_path / "l.safetensors", model.text_encoder, model.unet, dim=4, alpha=2.0, seed=4)
    arguments = ("--sd_model", tiny_v2, "--models", lora, "--save_to", tmp_path / "m.safetensors")
    assert merge(*arguments) == 2
    refusal(capsys.readouterr().err, "MODEL-007", "--sd_model tiny_v2.safetensors", "add --v2")
    assert merge(*arguments, "--v2") == 0
    assert difference(load(tmp_path / "m.safetensors", v2=True), in_memory(tiny_v2, True, (lora, 1.0))) < 1e-6


def test_diffusers_folders_and_changes_of_layout_hold_the_same_weights(files, tmp_path: Path) -> None:
    source = write_diffusers(tmp_path / "source", dtype=torch.float32)
    expected = in_memory(source, False, (files["a"], 1.0))
    for name in ("folder", "file.ckpt"):
        assert merge("--sd_model", source, "--models", files["a"], "--save_to", tmp_path / name) == 0
        assert difference(load(tmp_path / name), expected) < 1e-6, name
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == sorted(path.name for path in source.iterdir())
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]
    (tmp_path / "pictures").mkdir()
    assert merge("--sd_model", source, "--models", files["a"], "--save_to", tmp_path / "pictures") == 2


def test_precisions_act_and_the_receipt_tells_what_they_cost(tiny_v1: Path, files, tmp_path: Path, capsys) -> None:
    def told(*options: object) -> tuple[float, dict]:
        assert merge("--sd_model", tiny_v1, "--models", files["a"], "--save_to", path, *options) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if "in total" in line)
        return float(line.split()[2].rstrip(",")), safetensors.torch.load(path.read_bytes())

    path = tmp_path / "x.safetensors"
    name = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    exact, weights = told("--no_metadata")
    assert weights[name].dtype == torch.float32 and exact < 1e-5
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert "merged_networks" not in file.metadata()
    half, rounded = told("--save_precision", "fp16")
    assert torch.equal(rounded[name], weights[name].half()) and rounded["betas"].dtype == torch.float32
    coarse, summed = told("--precision", "bf16", "--save_precision", "float")
    assert torch.equal(summed[name], summed[name].bfloat16().float()) and summed[name].dtype == torch.float32
    assert exact < 1e-2 * half < half < coarse


def test_a_bound_that_is_passed_and_numbers_too_large_for_fp16(tiny_v1: Path, files, tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.safetensors"
    arguments = ("--sd_model", tiny_v1, "--models", files["a"], "--save_to", path, "--save_precision", "fp16")
    assert merge(*arguments, "--max_error", "1e-9") == 2 and list(tmp_path.iterdir()) == []
    refusal(capsys.readouterr().err, "TOOL-008", "--max_error 1e-09", "132 of 132 modules", "lora_")
    assert merge(*arguments, "--ratios", "1e9") == 0
    shown = capsys.readouterr()
    lost = int(next(line for line in shown.out.splitlines() if "too large" in line).split()[-1])
    weights = load_file(path)
    assert lost == sum(int(tensor.isinf().sum()) for tensor in weights.values()) > 0
    message(shown.err, "--save_precision float or bf16")
    assert merge(*arguments, "--ratios", "1e9", "--max_error", "1000") == 2


def test_what_cannot_be_merged_is_told_in_one_line(tiny_v1: Path, tiny_v2: Path, files, tmp_path: Path, capsys) -> None:
    def line(*argv: object, models: object = files["a"]) -> str:
        assert merge("--models", models, "--save_to", tmp_path / "x.safetensors", *argv) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    model = ("--sd_model", tiny_v1)
    refusal(line(*model, "--ratios", 1, 2), "TOOL-005", "--ratios", "2 values", "1 --models")
    refusal(line(*model, "--concat"), "OPT-008", "--concat, --shuffle")
    refusal(line("--sd_model", tiny_v2, "--v2"), "TOOL-006", files["a"])
    refusal(line(*model, models=files["a"].with_name("aa.safetensors")), "PATH-001", f"{files['a']}?")
    weights = load_file(files["a"])
    save_file({name.replace("lora_te_", "lora_te1_"): value for name, value in weights.items()}, tmp_path / "xl.safetensors")
    refusal(line(*model, models=tmp_path / "xl.safetensors"), "LORA-003", "xl.safetensors", "SDXL")
    name = next(iter(weights)).split(".")[0]
    save_file({**weights, f"{name}.dora_scale": torch.ones(1, 64)}, tmp_path / "dora.safetensors")
    refusal(line(models=tmp_path / "dora.safetensors"), "LORA-001", "dora.safetensors", name, "DoRA")
    save_file({key: value for key, value in weights.items() if key != f"{name}.lora_up.weight"}, tmp_path / "half.safetensors")
    refusal(line(*model, models=tmp_path / "half.safetensors"), "LORA-002", "half.safetensors", name)
    assert list(tmp_path.glob("x.*")) == []
