"""Both sides of the comparison run, on a small model of SD v1's shape, and train the same number of weights."""

from __future__ import annotations

import pytest
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig

import benchmarks.own_loop as own_loop
import benchmarks.peers.diffusers_peft as peer
from benchmarks import make_model
from benchmarks.rounds import Finished, Job

SIZE = make_model.SIZES["v1", "small"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    make_model.write(path, "v1", "small")
    return path


def _small_unet(**given):
    sizes = {"block_out_channels": SIZE.unet_widths, "layers_per_block": SIZE.unet_layers, "cross_attention_dim": SIZE.text_width}
    return UNet2DConditionModel(**{**given, **sizes})


def _small_text(**given):
    sizes = {"hidden_size": SIZE.text_width, "intermediate_size": 4 * SIZE.text_width, "num_hidden_layers": SIZE.text_layers}
    return CLIPTextConfig(**{**given, **sizes, "num_attention_heads": 1})


def _run(monkeypatch, side, job: Job) -> int:
    """Two updates; returns how many weights are trained."""
    told = []

    def two_steps(job, facts):
        told.append(facts["trained"])
        yield from range(2)
        raise Finished

    monkeypatch.setattr(side, "read_job", lambda: job)
    monkeypatch.setattr(side, "steps", two_steps)
    monkeypatch.setattr("library.console.setup", lambda: None)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        side.main()
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    return told[0]


@pytest.mark.parametrize(
    ("method", "precision", "text_encoder", "checkpointing"),
    [("lora", "no", True, False), ("lora", "bf16", False, True), ("full", "no", False, False), ("full", "bf16", True, True)],
)
def test_both_sides_train_the_same_weights(monkeypatch, checkpoint, method, precision, text_encoder, checkpointing):
    monkeypatch.setattr(peer, "UNet2DConditionModel", _small_unet)
    monkeypatch.setattr(peer, "CLIPTextConfig", _small_text)
    job = Job(method, 64, 2, precision, 4, text_encoder, checkpointing, "cpu", steps=1, warmup=0, model=str(checkpoint))
    assert _run(monkeypatch, own_loop, job) == _run(monkeypatch, peer, job) > 0
