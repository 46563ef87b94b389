"""LoRAs into one LoRA: networks/merge_lora.py without a model, networks/svd_merge_lora.py, networks/resize_lora.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from library.lora.block_ratios import block_of
from library.lora.files import group_by_module, read_weights
from library.surgery.network_file import open_network
from library.surgery.resize import ResizeSettings, resized
from networks import merge_lora, resize_lora, svd_merge_lora
from tests.messages import refusal
from tests.scripts.running import run_in_process, tensors_equal
from tests.surgery.conftest import deltas, relative


def run(tool, *argv: object) -> int:
    return run_in_process(tool.main, *argv)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def ranks(path: Path) -> set[int]:
    return {module.rank for module in group_by_module(read_weights(path), "x").values()}


def weighted(files, **ratios: float) -> dict[str, torch.Tensor]:
    sums: dict[str, torch.Tensor] = {}
    for name, ratio in ratios.items():
        for key, delta in deltas(files[name]).items():
            sums[key] = sums.get(key, 0) + ratio * delta
    return sums


def worst(path: Path, wanted: dict[str, torch.Tensor]) -> float:
    actual = deltas(path)
    assert actual.keys() == wanted.keys()
    return max(relative(actual[key], wanted[key]) for key in wanted)


def told_worst(text: str) -> float:
    return float(text.partition(", worst ")[2].split()[0])


def test_concatenation_is_the_exact_sum_of_loras_of_any_ranks(files, tmp_path: Path, capsys) -> None:
    path, mixed = tmp_path / "sum.safetensors", tmp_path / "mixed.safetensors"
    arguments = ("--models", files["a"], files["c"], "--ratios", 0.8, "-0.3", "--concat")
    assert run(merge_lora, *arguments, "--save_to", path) == 0
    assert worst(path, weighted(files, a=0.8, c=-0.3)) < 1e-5 and told_worst(capsys.readouterr().out) < 1e-5
    assert ranks(path) == {12, 8, 3}  # both; modules of "c" alone, and its convolutions
    said = metadata(path)
    assert said["ss_training_comment"] == "merged from a: 0.8, c: -0.3" and said["ss_network_dim"] == "Dynamic"
    assert said["ss_base_model_version"] == "sd_v1" and len(said["sshs_model_hash"]) == 64
    assert run(merge_lora, *arguments, "--save_to", mixed, "--shuffle", "--no_metadata") == 0
    assert not tensors_equal(path, mixed) and worst(mixed, deltas(path)) < 1e-6
    assert not [key for key in metadata(mixed) if key.startswith("ss_")]


def test_loras_of_one_rank_are_averaged_as_the_well_known_suite_does(files, tmp_path: Path, capsys) -> None:
    path = tmp_path / "mean.safetensors"
    assert run(merge_lora, "--models", files["a"], files["b"], "--ratios", 0.6, 0.4, "--save_to", path, "--save_precision", "fp16") == 0
    error = told_worst(capsys.readouterr().out)
    a, b, actual = (load_file(files["a"]), load_file(files["b"]), load_file(path))
    for name in actual:
        if not name.endswith("alpha"):  # alphas 2 and 1: the second's numbers count √(1/2)
            expected = (0.6 * a[name] + 0.4 * 0.5**0.5 * b[name]).half()
            torch.testing.assert_close(actual[name], expected, rtol=2e-3, atol=1e-6)
        else:
            assert float(actual[name]) == 2.0 and actual[name].dtype == torch.float32
    assert error == pytest.approx(worst(path, weighted(files, a=0.6, b=0.4)), rel=1e-2) and error > 0.3
    assert metadata(path)["ss_network_alpha"] == "2"
    assert run(merge_lora, "--models", files["a"], files["c"], "--save_to", path) == 2
    refusal(capsys.readouterr().err, "TOOL-005", "--models", "ranks 4 and 8", "--concat")
    single = tmp_path / "scaled.safetensors"
    assert run(merge_lora, "--models", files["c"], "--ratios", "-0.5", "--save_to", single) == 0
    assert worst(single, weighted(files, c=-0.5)) < 1e-6


def test_a_negative_ratio_takes_away(files, tmp_path: Path) -> None:
    """Averaging makes ratio² · ΔW of a LoRA next to which the other one counts nothing, with the sign of the ratio."""
    new = tmp_path / "minus.safetensors"
    assert run(merge_lora, "--models", files["a"], files["b"], "--ratios", -0.5, 0, "--save_to", new) == 0
    assert worst(new, {key: -0.25 * delta for key, delta in deltas(files["a"]).items()}) < 1e-5


def test_a_precision_of_reading_rounds_the_sources(files, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert run(merge_lora, "--models", files["a"], "--save_to", path, "--precision", "bf16", "--save_precision", "float") == 0
    assert 1e-4 < worst(path, deltas(files["a"])) < 1e-2
    assert run(merge_lora, "--models", files["a"], "--save_to", path, "--precision", "bf16") == 0
    assert {tensor.dtype for name, tensor in load_file(path).items() if not name.endswith("alpha")} == {torch.bfloat16}


def test_svd_merging_gives_the_best_approximation_of_the_sum(files, tmp_path: Path, capsys) -> None:
    wanted = weighted(files, a=0.8, c=-0.3)
    arguments = ("--models", files["a"], files["c"], "--ratios", 0.8, "-0.3")
    full, cut = tmp_path / "full.safetensors", tmp_path / "cut.safetensors"
    assert run(svd_merge_lora, *arguments, "--new_rank", 99, "--save_to", full, "--device", "cpu") == 0
    assert worst(full, wanted) < 1e-5
    capsys.readouterr()
    assert run(svd_merge_lora, *arguments, "--new_rank", 5, "--new_conv_rank", 2, "--save_to", cut, "--verbose") == 0
    actual, lines = deltas(cut), capsys.readouterr().out.splitlines()
    for key, delta in wanted.items():
        wide = delta.dim() == 4 and delta.shape[2:] != (1, 1)
        values = torch.linalg.svdvals(delta.flatten(1).double())
        left = float(values[2 if wide else 5 :].norm() / values.norm())
        assert relative(actual[key], delta) == pytest.approx(left, abs=2e-5), key
        (line,) = [line for line in lines if f"  {key}" in line and "in total" not in line]
        assert float(line.split()[0]) == pytest.approx(left, rel=1e-2, abs=1e-5)
    assert run(svd_merge_lora, *arguments, "--save_to", cut, "--device", "warp9") == 2
    assert run(svd_merge_lora, *arguments, "--new_rank", 1, "--save_to", tmp_path / "no.safetensors", "--max_error", 0.01) == 2
    assert not (tmp_path / "no.safetensors").exists()
    assert run(svd_merge_lora, "--models", files["a"], "--ratios", 1, 2, "--save_to", cut) == 2
    assert "--ratios: 2 values" in capsys.readouterr().err


@pytest.mark.parametrize("count", [17, 26])
def test_block_weights_multiply_the_ratio_of_each_module(files, tmp_path: Path, count: int) -> None:
    """Against the sum worked out by hand: text encoder 0, IN01 half (the tiny model has no IN02), the rest of the second file as it is."""
    names = {17: "BASE IN01 IN02", 26: "BASE IN00 IN01 IN02"}[count].split()
    weights = [{"BASE": 0.0, "IN00": 7.0, "IN01": 0.5, "IN02": 0.25}[name] for name in names] + [1.0] * (count - len(names))
    lists = (",".join(["1"] * count), json.dumps(weights))
    path = tmp_path / "x.safetensors"
    arguments = ("--models", files["a"], files["c"], "--ratios", 0.8, 0.5, "--lbws", *lists)
    assert run(svd_merge_lora, *arguments, "--new_rank", 99, "--save_to", path) == 0
    first, second = deltas(files["a"]), deltas(files["c"])

    def factor(key: str) -> float:
        return 0.0 if key.startswith("lora_te") else 0.5 if "down_blocks_0_attentions" in key or "down_blocks_0_resnets" in key else 1.0

    assert {block_of(key) for key in second} >= {"BASE", "IN01", "IN04", "MID"}
    wanted = {key: 0.5 * factor(key) * delta for key, delta in second.items()}
    for key, delta in first.items():
        wanted[key] = wanted.get(key, torch.zeros_like(delta)) + 0.8 * delta
    assert worst(path, {key: delta for key, delta in wanted.items() if delta.any()}) < 1e-5


@pytest.mark.parametrize(
    ("lists", "asked"),
    [
        (["[1,1]"], ("TOOL-005", "--lbws", "1 list", "2 --models")),
        (["[1,1]", "[1,1]"], ("OPT-006", "--lbws", "2 numbers", "17 (BASE IN01")),
        (["1" + ",1" * 11] * 2, ("OPT-006", "--lbws", "12 and 20", "SDXL")),
        (["[1,x]", "[1]"], ("OPT-006", "--lbws", "[1,x]", "commas")),
    ],
)
def test_lists_of_block_weights_of_another_form_are_refused(
    files, tmp_path: Path, capsys, lists: list[str], asked: tuple[str, ...]
) -> None:
    arguments = ("--models", files["a"], files["c"], "--save_to", tmp_path / "x.safetensors", "--lbws", *lists)
    assert run(svd_merge_lora, *arguments) == 2
    refusal(capsys.readouterr().err, *asked)


def test_the_iterations_of_an_approximate_svd_change_nothing_since_ours_is_exact(files, tmp_path: Path) -> None:
    for count in (0, 9):
        target = tmp_path / f"{count}.safetensors"
        assert run(resize_lora, "--model", files["c"], "--new_rank", 2, "--save_to", target, "--svd_lowrank_niter", count) == 0
    assert tensors_equal(tmp_path / "0.safetensors", tmp_path / "9.safetensors")


def test_precisions_and_metadata_of_an_svd_merge_are_those_asked_for(files, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def merged(*options: object) -> set[torch.dtype]:
        assert run(svd_merge_lora, "--models", files["a"], "--new_rank", 4, "--save_to", path, *options) == 0
        return {tensor.dtype for name, tensor in load_file(path).items() if not name.endswith("alpha")}

    assert merged() == {torch.float32} and worst(path, deltas(files["a"])) < 1e-5
    assert metadata(path)["ss_training_comment"] == "merged from a: 1"
    assert merged("--no_metadata") == {torch.float32} and not [key for key in metadata(path) if key.startswith("ss_")]
    assert merged("--save_precision", "fp16") == {torch.float16}
    assert merged("--precision", "bf16", "--save_precision", "float") == {torch.float32}
    assert 1e-4 < worst(path, deltas(files["a"])) < 1e-2  # what reading in bf16 rounds off
    assert merged("--precision", "bf16") == {torch.bfloat16}


def test_resizing_that_loses_more_than_the_bound_writes_nothing(files, tmp_path: Path, capsys) -> None:
    command = ("--model", files["c"], "--new_rank", 3, "--save_to", tmp_path / "x.safetensors")
    assert run(resize_lora, *command, "--max_error", 0.01) == 2
    assert "error: --max_error 0.01: " in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run(resize_lora, *command, "--max_error", 0.99) == 0


def test_resizing_at_full_rank_changes_nothing(files, tmp_path: Path) -> None:
    for rank in (8, 50):
        assert run(resize_lora, "--model", files["c"], "--new_rank", rank, "--save_to", tmp_path / "x.safetensors") == 0
        assert tensors_equal(files["c"], tmp_path / "x.safetensors")


def test_a_resized_lora_loses_the_singular_values_that_were_cut_off(files, tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.safetensors"
    assert run(resize_lora, "--model", files["c"], "--new_rank", 3, "--new_conv_rank", 1, "--save_to", path, "--verbose") == 0
    shown, before, after = capsys.readouterr().out, deltas(files["c"]), deltas(path)
    for key, delta in before.items():
        values = torch.linalg.svdvals(delta.flatten(1).double())
        wide = delta.dim() == 4 and delta.shape[2:] != (1, 1)
        assert relative(after[key], delta) == pytest.approx(float(values[1 if wide else 3 :].norm() / values.norm()), abs=2e-5), key
    assert "rank 8 → 3, sum kept" in shown and "rank 3 → 1, sum kept" in shown
    scales = {round(module.alpha / module.rank, 6) for module in group_by_module(read_weights(path), "x").values()}
    assert scales == {0.25, round(1 / 3, 6)}  # as before
    said = metadata(path)
    assert said["ss_training_comment"] == "resized from rank 3–8 to 3 (convolutions 1); mine" and said["ss_network_dim"] == "3"


@pytest.mark.parametrize(("method", "parameter"), [("sv_ratio", 1.5), ("sv_ratio", 3.0), ("sv_cumulative", 0.7), ("sv_fro", 0.8)])
def test_dynamic_ranks_keep_what_they_promise(files, tmp_path: Path, capsys, method: str, parameter: float) -> None:
    path = tmp_path / "x.safetensors"
    arguments = ("--model", files["c"], "--dynamic_method", method, "--dynamic_param", parameter, "--save_to", path, "--new_rank", 6)
    if method == "sv_ratio" and parameter < 2:
        assert run(resize_lora, *arguments) == 2 and "use 2 or more" in capsys.readouterr().err
        return
    assert run(resize_lora, *arguments, "--save_precision", "fp16", "--no_metadata") == 0
    modules = group_by_module(read_weights(path), "x")
    for key, delta in deltas(files["c"]).items():
        values, rank = torch.linalg.svdvals(delta.flatten(1).double())[:8], modules[key].rank
        retained = {
            "sv_ratio": lambda n, values=values: float(values[0] / values[n - 1]) / parameter,
            "sv_cumulative": lambda n, values=values: parameter / float(values[:n].sum() / values.sum()),
            "sv_fro": lambda n, values=values: parameter / float(values[:n].norm() / values.norm()),
        }[method]
        if method == "sv_ratio":
            assert retained(rank) < 1.001 or rank == 1
        else:
            assert rank == 6 or (retained(rank) <= 1.001 and (rank == 1 or retained(rank - 1) > 0.999))
        assert modules[key].down.dtype == torch.float16
    assert len({module.rank for module in modules.values()}) > 1 and not any(key.startswith("ss_") for key in metadata(path))


def test_dynamic_options_that_do_not_go_together_are_told(files, tmp_path: Path, capsys) -> None:
    for options, asked in (
        (("--dynamic_param", 0.5), ("OPT-009", "--dynamic_param:", "--dynamic_method")),
        (("--dynamic_method", "sv_fro"), ("OPT-009", "--dynamic_method sv_fro:", "--dynamic_param")),
        (("--dynamic_method", "sv_fro", "--dynamic_param", 2), ("OPT-006", "--dynamic_param", "sv_fro", "0 to 1")),
    ):
        assert run(resize_lora, "--model", files["a"], "--save_to", tmp_path / "x.safetensors", *options) == 2
        refusal(capsys.readouterr().err, *asked)


def test_a_zero_module_survives_resizing(files, tmp_path: Path) -> None:
    weights = load_file(files["a"])
    key = next(iter(weights)).split(".")[0]
    save_file({**weights, f"{key}.lora_up.weight": weights[f"{key}.lora_up.weight"] * 0}, tmp_path / "z.safetensors")
    network = open_network(tmp_path / "z.safetensors", "--model")
    modules = {module.key: module for module in resized(network, ResizeSettings(2, 2, None, 0.0, "cpu"))}
    assert (
        modules[key].note() == "rank 4 → 2, all zero"
        and not modules[key].module.up.any()
        and modules[key].compared(modules[key].module)[0] == 0
    )
