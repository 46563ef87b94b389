"""`--torch_compile` and `accelerate launch --dynamo_backend …`: what is trained stays what it was, in every script, and goes on exactly."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from library.training.logs.event_log import read_events
from tests.scripts.running import largest_difference, tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import stop_after
from tests.scripts.test_exact_resume import QUICK, ROWS, SCRIPTS, options

LAST_PLACE = 2e-8  # of float32 beside 0.1, which LoRA's weights come near


def trained(script: str, backend: str, model: Path, photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: object) -> Path:
    """The output folder of a short run of `script` under `backend`, as the launcher says it."""
    torch.compiler.reset()
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    made = one_by_one(options(script, ROWS[QUICK[script]], model, photos, folder))
    made |= {"output_dir": folder / backend, "max_train_steps": 4, "max_train_epochs": None, **more}
    assert start(SCRIPTS[script][0], **made) == 0
    return folder / backend


def one_by_one(options: dict[str, object]) -> dict[str, object]:
    """With one image a batch: no batch is short then and filled up with blank rows, beside which sums are added up in another order."""
    config = Path(str(options["dataset_config"]))
    text, count = re.subn(r"(?m)^batch_size *= *\d+", "batch_size = 1", config.read_text(encoding="utf-8"))
    assert count, text
    config.write_text(text, encoding="utf-8")
    return options


def losses(folder: Path) -> list[float]:
    return [found["loss/current"] for found in read_events(folder / "events.jsonl") if found["event"] == "update"]


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "lycoris"])
def test_the_traced_step_is_the_step(script: str, tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that runs the traced operations as they are, over buckets of several sizes, each of which is one graph: equal bit for
    bit, but for LoRA's factors, to whose gradients the products are added up in another order. (In bf16 that order shows in the loss.)"""
    torch._dynamo.utils.counters.clear()
    exact = {"mixed_precision": "no"} if script == "lora" else {}
    plain, traced = (trained(script, backend, tiny_v1, photos, tmp_path, monkeypatch, **exact) for backend in ("NO", "EAGER"))
    assert losses(plain) == losses(traced) and len(losses(plain)) == 4
    for path in plain.glob("*.safetensors"):
        assert tensors_equal(path, traced / path.name) or (script == "lora" and largest_difference(path, traced / path.name) < LAST_PLACE)
    stats = torch._dynamo.utils.counters
    assert not stats["graph_break"] and stats["stats"]["unique_graphs"] == 3, dict(stats["graph_break"])


@pytest.mark.slow
def test_compiled_code_trains_the_same(tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding, as compiled operations are fused."""
    _skip_without_a_compiler()
    short = {"mixed_precision": "no", "gradient_accumulation_steps": 1, "max_train_steps": 2}
    plain, compiled = (trained("lora", backend, tiny_v1, photos, tmp_path, monkeypatch, **short) for backend in ("NO", "INDUCTOR"))
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert 0 < largest_difference(plain / "cat.safetensors", compiled / "cat.safetensors") < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_compiled_run_goes_on_exactly(backend: str, tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    if backend == "inductor":
        _skip_without_a_compiler()
    fixed = options("lora", ROWS[QUICK["lora"]], tiny_v1, photos, tmp_path) | {"network_dropout": 0.3, "lr_scheduler": "constant"}
    fixed |= {"max_train_epochs": None, "save_every_n_epochs": None, "save_every_n_steps": None, "lr_warmup_steps": 0}
    fixed |= {"dataset_config": dataset(tmp_path / "one.toml", photos), "torch_compile": True, "dynamo_backend": backend}
    torch.compiler.reset()
    assert start(SCRIPTS["lora"][0], **{**fixed, "max_train_steps": 4, "output_dir": tmp_path / "whole"}) == 0
    torch.compiler.reset()  # as another process
    parts = {**fixed, "output_dir": tmp_path / "parts", "save_state": True}
    assert stop_after(2, SCRIPTS["lora"][0], **{**parts, "max_train_steps": 4}) == 130
    torch.compiler.reset()
    resume = tmp_path / "parts" / "cat-step00000002-state"
    assert start(SCRIPTS["lora"][0], **{**parts, "max_train_steps": 4, "resume": resume}) == 0
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "parts" / "cat.safetensors")


@pytest.mark.slow
def test_a_run_compiled_by_the_option_is_the_run_without(
    tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--torch_compile --dynamo_backend eager`, with nothing said by the launcher."""
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    made = one_by_one(options("lora", ROWS[QUICK["lora"]], tiny_v1, photos, tmp_path)) | {"max_train_steps": 2, "max_train_epochs": None}
    made["mixed_precision"] = "no"
    assert start(SCRIPTS["lora"][0], **{**made, "output_dir": tmp_path / "plain"}) == 0
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    more = {"output_dir": tmp_path / "compiled", "torch_compile": True, "dynamo_backend": "eager"}
    assert start(SCRIPTS["lora"][0], **{**made, **more}) == 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert losses(tmp_path / "plain") == losses(tmp_path / "compiled") and len(losses(tmp_path / "plain")) == 2
    (file,) = (path for path in (tmp_path / "plain").glob("*.safetensors"))
    assert largest_difference(file, tmp_path / "compiled" / file.name) < LAST_PLACE


def _skip_without_a_compiler() -> None:
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++", "cl")):
        pytest.skip("inductor needs a C++ compiler")
