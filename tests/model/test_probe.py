"""What a model predicts, derived from its answers: against models whose answers are written down by formula."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import library.model.probe as probe
from library.model.load import load
from library.model.probe import looks_like_epsilon
from tests.messages import refused

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
SIGNAL = (1 - BETAS).cumprod(0)


class _Formula(torch.nn.Module):
    """A U-Net that believes in one image x₀, of deviation `contrast`, for any input."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(in_channels=4)

    def __init__(self, velocity: bool, contrast: float) -> None:
        super().__init__()
        self.velocity = velocity
        self.image = contrast * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))

    def forward(self, latents, timestep, context):
        signal = SIGNAL[timestep]
        noise = (latents - signal.sqrt() * self.image) / (1 - signal).sqrt()
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * self.image
        return SimpleNamespace(sample=velocity if self.velocity else noise)


@pytest.mark.parametrize(("velocity", "expected"), [(False, True), (True, False)])
@pytest.mark.parametrize("contrast", [0.05, 0.3])
def test_a_model_that_predicts_noise_or_velocity_is_recognised(velocity, expected, contrast, models):
    assert looks_like_epsilon(replace(models["v2"], unet=_Formula(velocity, contrast))) is expected


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_random_weights_say_nothing(version, models):
    assert looks_like_epsilon(models[version]) is None


def test_v_parameterization_for_a_noise_model_is_an_error(checkpoints, monkeypatch):
    monkeypatch.setattr(probe, "looks_like_epsilon", lambda model: True)
    with refused("MODEL-007", "--v_parameterization contradicts", "remove"):
        load(checkpoints["v2"], v2=True, v_parameterization=True)
    assert load(checkpoints["v2"], v2=True).prediction == "epsilon"


def test_a_velocity_model_without_the_flag_is_warned_of(checkpoints, monkeypatch, heard):
    monkeypatch.setattr(probe, "looks_like_epsilon", lambda model: False)
    load(checkpoints["v2"], v2=True)
    assert "add --v_parameterization" in heard.text
