"""Files with numbers that are not finite: every tool that would use them reports it in a line and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from networks import extract_lora_from_models, merge_lora, resize_lora, svd_merge_lora
from tests.messages import refusals
from tests.scripts.running import run_in_process


def broken(source: Path, name: str, target: Path) -> Path:
    """A copy in which one number of the first tensor that ends with `name` is NaN."""
    tensors = load_file(source)
    key = next(key for key in sorted(tensors) if key.endswith(name))
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, target)
    return target


@pytest.fixture
def lora(files, tmp_path: Path) -> Path:
    return broken(files["a"], "lora_up.weight", tmp_path / "broken.safetensors")


@pytest.mark.parametrize("tool", [merge_lora, resize_lora, svd_merge_lora, "into a model", "concat"])
def test_nothing_is_made_of_a_broken_network(tool, lora: Path, files, tiny_v1: Path, tmp_path: Path, capsys) -> None:
    more = {"into a model": ["--sd_model", tiny_v1], "concat": ["--concat", "--models", files["a"], lora]}.get(tool, [])
    main = (merge_lora if isinstance(tool, str) else tool).main
    argv = ["--model", lora, "--new_rank", 2] if tool is resize_lora else ["--models", lora]
    new = tmp_path / "made.safetensors"
    assert run_in_process(main, *argv, *more, "--save_to", new) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, ("FILE-009", lora, "check_lora_weights"))
    assert not new.exists()


def test_of_a_broken_model_no_network_is_made(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    model = broken(tiny_v1, "attn1.to_q.weight", tmp_path / "model.safetensors")
    new = tmp_path / "made.safetensors"
    for org, tuned, which in ((tiny_v1, model, "--model_tuned"), (model, tiny_v1, "--model_org")):
        assert run_in_process(extract_lora_from_models.main, "--model_org", org, "--model_tuned", tuned, "--save_to", new) == 2
        assert f"error: {which}: lora_unet_" in capsys.readouterr().err
    assert not new.exists()


@pytest.mark.parametrize("side", ["--model_org", "--model_tuned"])
def test_an_extraction_reports_norms_that_are_not_finite(side: str, tiny_v1: Path, tmp_path: Path, capsys) -> None:
    damaged = broken(tiny_v1, "middle_block.1.norm.weight", tmp_path / "damaged.safetensors")
    tensors = load_file(tiny_v1)
    tensors["model.diffusion_model.middle_block.1.proj_in.weight"] += 1
    save_file(tensors, tmp_path / "tuned.safetensors")
    models = {"--model_org": tiny_v1, "--model_tuned": tmp_path / "tuned.safetensors", side: damaged}
    if side == "--model_tuned":
        models["--model_org"] = tmp_path / "tuned.safetensors"
    argv = [word for pair in models.items() for word in pair]
    assert run_in_process(extract_lora_from_models.main, *argv, "--save_to", tmp_path / "new.safetensors") == 2
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")], ("FILE-009", side, "norms"))
    assert not (tmp_path / "new.safetensors").exists()
