"""The samplers of a model that was trained with zero terminal SNR: the training's schedule, from its last timestep on."""

from __future__ import annotations

import json

import numpy
import pytest
import torch

from library.diffusion.schedule import NoiseSchedule
from library.model.diffusers_folder import save_diffusers
from library.model.drawing.generate import GenerateSettings, generate
from library.model.drawing.samplers import SAMPLERS, make_scheduler, zero_terminal_snr_betas
from library.model.load import load


def test_the_betas_are_those_of_the_trainings_schedule():
    alphas = numpy.cumprod(1 - numpy.array(zero_terminal_snr_betas()))
    trained = NoiseSchedule.stable_diffusion().with_zero_terminal_snr().alphas_cumprod.double().numpy()
    numpy.testing.assert_allclose(alphas[:-1], trained[:-1], rtol=1e-4)
    assert trained[-1] == 0 and alphas[-1] < 1e-7


@pytest.mark.parametrize(
    "name", ["ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", *[n for n in SAMPLERS if "dpms" in n]]
)
def test_each_sampler_starts_at_the_last_timestep_and_stays_finite(name):
    scheduler = make_scheduler(name, "v_prediction", zero_terminal_snr=True)
    scheduler.set_timesteps(6)
    assert round(float(scheduler.timesteps[0])) == 999
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(torch.zeros(1, 4, 4, 4), timestep, latents).prev_sample
    assert latents.isfinite().all()


def test_ddim_draws_the_image_that_a_perfect_v_model_means():
    """v = √ā·ε − √(1−ā)·x₀ of one image x₀: from pure noise, DDIM comes back to x₀ only if its schedule is the training's."""
    schedule = NoiseSchedule.stable_diffusion().with_zero_terminal_snr()
    x0 = torch.full((1, 4, 2, 2), -1.7)  # darker than the plain schedule can start
    scheduler = make_scheduler("ddim", "v_prediction", zero_terminal_snr=True)
    scheduler.set_timesteps(10)
    latents = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    for timestep in scheduler.timesteps:
        alpha = schedule.alphas_cumprod[timestep]
        noise = (latents - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        latents = scheduler.step(schedule.velocity(x0, noise, timestep[None]), timestep, latents).prev_sample
    torch.testing.assert_close(latents, x0, atol=0.06, rtol=0)


def test_a_model_with_zero_terminal_snr_draws_and_is_saved_so(tiny_v2, tmp_path):
    model = load(tiny_v2, v2=True, v_parameterization=True)
    settings = GenerateSettings("a cat", width=64, height=64, steps=2, seed=1)
    before = numpy.asarray(generate(model, settings, "cpu")).astype(int)
    model.zero_terminal_snr = True
    assert numpy.abs(numpy.asarray(generate(model, settings, "cpu")).astype(int) - before).max() > 0
    save_diffusers(model, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert config["rescale_betas_zero_snr"] and config["timestep_spacing"] == "trailing" and config["prediction_type"] == "v_prediction"
    from diffusers import DDIMScheduler

    made = DDIMScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    trained = NoiseSchedule.stable_diffusion().with_zero_terminal_snr().alphas_cumprod
    torch.testing.assert_close(made.alphas_cumprod, trained, rtol=1e-4, atol=1e-6)
