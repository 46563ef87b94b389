"""`accelerate launch --dynamo_backend …`: PyTorch's compiler works on the step of every script, and what is trained stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from library.training.logs.event_log import read_events
from tests.scripts.running import tensors_equal
from tests.scripts.starting import start
from tests.scripts.test_exact_resume import QUICK, ROWS, SCRIPTS, options


def trained(script: str, backend: str, model: Path, photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a short run of `script` under `backend`, as the launcher says it."""
    torch.compiler.reset()
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    made = options(script, ROWS[QUICK[script]], model, photos, folder)
    made |= {"output_dir": folder / backend, "max_train_steps": 4, "max_train_epochs": None}
    assert start(SCRIPTS[script][0], **made) == 0
    return folder / backend


def losses(folder: Path) -> list[float]:
    return [found["loss/current"] for found in read_events(folder / "events.jsonl") if found["event"] == "update"]


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "lycoris"])
def test_the_traced_step_is_the_step(script: str, tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that runs the traced operations as they are: equal bit for bit, over buckets of several sizes."""
    plain, traced = (trained(script, backend, tiny_v1, photos, tmp_path, monkeypatch) for backend in ("NO", "EAGER"))
    assert losses(plain) == losses(traced) and len(losses(plain)) == 4
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for path in plain.glob("*.safetensors"):
        assert tensors_equal(path, traced / path.name)


@pytest.mark.slow
def test_a_run_compiled_by_the_option_is_the_run_without(
    tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--torch_compile --dynamo_backend eager`, with nothing said by the launcher."""
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    made = options("lora", ROWS[QUICK["lora"]], tiny_v1, photos, tmp_path) | {"max_train_steps": 1, "max_train_epochs": None}
    assert start(SCRIPTS["lora"][0], **{**made, "output_dir": tmp_path / "plain"}) == 0
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    more = {"output_dir": tmp_path / "compiled", "torch_compile": True, "dynamo_backend": "eager"}
    assert start(SCRIPTS["lora"][0], **{**made, **more}) == 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert losses(tmp_path / "plain") == losses(tmp_path / "compiled") and len(losses(tmp_path / "plain")) == 1
    (file,) = (path for path in (tmp_path / "plain").glob("*.safetensors"))
    assert tensors_equal(file, tmp_path / "compiled" / file.name)
