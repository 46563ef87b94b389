"""networks/extract_lora_from_models.py: gives a merged LoRA back, is the best approximation at a rank, and names what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from library.lora.files import group_by_module, read_weights
from networks.extract_lora_from_models import main
from tests.messages import message, refusal
from tests.scripts.running import run_in_process, tensors_equal
from tests.surgery.conftest import deltas, relative
from tests.surgery.far_device import NAME, far_device


def extract(*argv: object) -> int:
    return run_in_process(main, *argv)


@pytest.fixture(scope="module")
def command(tiny_v1: Path, merged: Path) -> tuple[object, ...]:
    return ("--model_org", tiny_v1, "--model_tuned", merged)


def test_at_full_rank_the_lora_that_was_merged_comes_back(command, files, tmp_path: Path, capsys) -> None:
    """1e-3 relative in fp32; it is about 1e-5."""
    path = tmp_path / "x.safetensors"
    assert extract(*command, "--dim", 8, "--conv_dim", 3, "--min_diff", 0, "--save_to", path, "--max_error", 1e-3) == 0
    wanted, actual = deltas(files["c"]), deltas(path)
    assert actual.keys() == wanted.keys()
    assert max(relative(actual[key], 0.8 * delta) for key, delta in wanted.items()) < 1e-3
    assert "% of the change" not in capsys.readouterr().err
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert (said["ss_base_model_version"], said["ss_v2"], said["ss_sd_model_name"]) == ("sd_v1", "False", "tiny_v1.safetensors")
    assert said["ss_network_args"] == '{"conv_dim": "3", "conv_alpha": "3"}' and said["ss_network_dim"] == "8"


def test_at_a_lower_rank_the_error_is_the_discarded_singular_values(command, files, tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.safetensors"
    assert extract(*command, "--dim", 3, "--save_to", path, "--verbose", "--no_metadata", "--device", "cpu") == 0
    wanted, actual, shown = deltas(files["c"]), deltas(path), capsys.readouterr()
    assert actual.keys() < wanted.keys() and not any("resnets" in key for key in actual)
    for key, delta in actual.items():
        values = torch.linalg.svdvals(wanted[key].flatten(1).double())
        left = float(values[3:].norm() / values.norm())
        assert relative(delta, 0.8 * wanted[key]) == pytest.approx(left, abs=1e-4), key
        line = next(line for line in shown.out.splitlines() if f"{key}  rank 3, of it left out by the rank " in line)
        assert float(line.split()[-1]) == pytest.approx(left, rel=1e-2)
    all_of_it = sum(float(delta.square().sum()) for delta in wanted.values())
    without = sum(float(delta.square().sum()) for key, delta in wanted.items() if key not in actual)
    message(shown.err, f"{100 * (without / all_of_it) ** 0.5:.1f}%")
    with safe_open(path, "pt") as file:
        assert not any(key.startswith("ss_") for key in file.metadata())


def test_precision_clamping_and_the_least_difference_act(command, files, tmp_path: Path, capsys) -> None:
    plain, other = tmp_path / "plain.safetensors", tmp_path / "other.safetensors"
    assert extract(*command, "--save_to", plain, "--min_diff", 1e-6) == 0
    assert {module.rank for module in group_by_module(read_weights(plain), "plain").values()} == {4}
    assert extract(*command, "--save_to", other, "--save_precision", "fp16", "--clamp_quantile", 0.9, "--min_diff", 1) == 0
    message(capsys.readouterr().err, "text encoders", "--min_diff 1")
    before, after = load_file(plain), load_file(other)
    assert after.keys() == {name for name in before if name.startswith("lora_unet_")}
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    numbers = torch.cat([before[f"{key}.lora_{side}.weight"].flatten() for side in ("up", "down")]).abs()
    cut = torch.cat([after[f"{key}.lora_{side}.weight"].flatten() for side in ("up", "down")]).abs()
    assert float(cut.max()) == pytest.approx(float(numbers.sort().values[int(0.9 * len(numbers))]), rel=2e-2) and cut.dtype == torch.float16


def test_models_are_rounded_first_where_a_precision_is_named(command, files, tmp_path: Path) -> None:
    plain, rounded = tmp_path / "plain.safetensors", tmp_path / "rounded.safetensors"
    assert extract(*command, "--dim", 8, "--min_diff", 0, "--save_to", plain) == 0
    assert extract(*command, "--dim", 8, "--min_diff", 0, "--load_precision", "bf16", "--save_to", rounded) == 0
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    wanted, actual = deltas(plain)[key], deltas(rounded)[key]
    assert 1e-4 < relative(actual, wanted) < 0.5  # what bf16 rounds off of two weights that are near each other


@pytest.mark.parametrize("option", ["--load_original_model_to", "--load_tuned_model_to"])
def test_a_model_is_put_where_it_is_asked_to_be_and_the_lora_is_the_same(command, option: str, tmp_path: Path, capsys) -> None:
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    assert extract(*command, "--save_to", here) == 0
    with far_device() as computed:
        assert extract(*command, "--save_to", there, option, NAME) == 0
    assert ("sub" in computed or "__sub__" in computed) == (option == "--load_tuned_model_to") and "float" in computed
    assert tensors_equal(here, there)
    assert extract(*command, "--save_to", there, option, "warp9") == 2
    refusal(capsys.readouterr().err, "OPT-018", f"{option} warp9")


def test_the_metadata_say_that_velocity_is_predicted_where_it_is_said(command, tmp_path: Path) -> None:
    for flags, said in (((), "sd_v1"), (("--v_parameterization",), "sd_v1_v")):
        assert extract(*command, "--save_to", tmp_path / "x.safetensors", *flags) == 0
        with safe_open(tmp_path / "x.safetensors", "pt") as file:
            assert file.metadata()["ss_base_model_version"] == said


def test_a_difference_over_the_bound_writes_nothing(command, tmp_path: Path, capsys) -> None:
    assert extract(*command, "--dim", 1, "--save_to", tmp_path / "x.safetensors", "--max_error", 0.01) == 2
    assert "error: --max_error 0.01: " in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_of_v2_models_it_makes_a_lora_for_v2(tiny_v2: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_v2)
    changed = ("model.diffusion_model.middle_block.1.proj_in.weight", "cond_stage_model.model.transformer.resblocks.0.")
    torch.manual_seed(0)
    for name, tensor in weights.items():
        if name.startswith(changed) and tensor.dim() == 2:
            weights[name] = tensor + 0.1 * torch.randn_like(tensor)
    save_file(weights, tmp_path / "tuned.safetensors")
    path = tmp_path / "x.safetensors"
    models = ("--model_org", tiny_v2, "--model_tuned", tmp_path / "tuned.safetensors")
    assert extract(*models, "--save_to", path) == 2
    assert extract(*models, "--save_to", path, "--v2") == 0
    actual = deltas(path)
    assert "lora_unet_mid_block_attentions_0_proj_in" in actual and "lora_te_text_model_encoder_layers_0_self_attn_k_proj" in actual
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert said["ss_v2"] == "True" and said["ss_base_model_version"].startswith("sd_v2")


def test_models_that_cannot_be_compared_are_told(command, tiny_v1: Path, tiny_v2: Path, merged: Path, tmp_path: Path, capsys) -> None:
    def line(*argv: object) -> str:
        assert extract(*argv, "--save_to", tmp_path / "x.safetensors") == 2
        return capsys.readouterr().err.splitlines()[-1]

    refusal(line("--model_org", tiny_v1, "--model_tuned", tiny_v1), "TOOL-007", "--model_tuned", "--model_org")
    mixed = line("--model_org", tiny_v1, "--model_tuned", tiny_v2)
    refusal(mixed, "MODEL-007", "--model_tuned tiny_v2.safetensors", "add --v2")
    refusal(line(*command, "--v2"), "MODEL-007", "--v2")
    weights = load_file(merged)
    name = "model.diffusion_model.middle_block.1.proj_in.weight"
    save_file({**weights, name: weights[name][:, :3].contiguous()}, tmp_path / "odd.safetensors")
    odd = line("--model_org", tiny_v1, "--model_tuned", tmp_path / "odd.safetensors")
    refusal(odd, "TOOL-007", "(64, 3, 1, 1)", "(64, 64, 1, 1)", "--model_org")
    refusal(line("--model_tuned", merged), "OPT-007", "--model_org")
