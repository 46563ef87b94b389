"""The schedule against diffusers and against the papers' formulas in float64."""

import numpy
import pytest
import torch
from diffusers import DDPMScheduler

from library.diffusion.schedule import NoiseSchedule


@pytest.fixture(scope="module")
def theirs() -> DDPMScheduler:
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False)


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    timesteps = torch.tensor([0, 1, 250, 500, 998, 999])
    return torch.randn(6, 4, 8, 6, generator=generator), torch.randn(6, 4, 8, 6, generator=generator), timesteps


def test_alphas_are_those_of_diffusers(theirs):
    assert torch.equal(NoiseSchedule.stable_diffusion().alphas_cumprod, theirs.alphas_cumprod)


def test_alphas_follow_the_formula_in_float64():
    betas = numpy.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    numpy.testing.assert_allclose(NoiseSchedule.stable_diffusion().alphas_cumprod.numpy(), numpy.cumprod(1 - betas), rtol=2e-5)


def test_added_noise_is_that_of_diffusers(theirs, drawn):
    torch.testing.assert_close(NoiseSchedule.stable_diffusion().add_noise(*drawn), theirs.add_noise(*drawn), rtol=0, atol=0)


def test_velocity_is_that_of_diffusers(theirs, drawn):
    torch.testing.assert_close(NoiseSchedule.stable_diffusion().velocity(*drawn), theirs.get_velocity(*drawn), rtol=0, atol=0)


def test_noise_and_velocity_follow_the_papers_in_float64(drawn):
    latents, noise, timesteps = (part.double().numpy() for part in drawn)
    alphas = NoiseSchedule.stable_diffusion().alphas_cumprod.double().numpy()[timesteps.astype(int)].reshape(-1, 1, 1, 1)
    schedule = NoiseSchedule.stable_diffusion()
    expected = numpy.sqrt(alphas) * latents + numpy.sqrt(1 - alphas) * noise
    numpy.testing.assert_allclose(schedule.add_noise(*drawn).numpy(), expected, atol=1e-6)
    expected = numpy.sqrt(alphas) * noise - numpy.sqrt(1 - alphas) * latents
    numpy.testing.assert_allclose(schedule.velocity(*drawn).numpy(), expected, atol=1e-6)


def test_target_is_the_noise_or_the_velocity(drawn):
    schedule = NoiseSchedule.stable_diffusion()
    latents, noise, timesteps = drawn
    assert schedule.target("epsilon", latents, noise, timesteps) is noise
    assert torch.equal(schedule.target("v_prediction", latents, noise, timesteps), schedule.velocity(latents, noise, timesteps))


def test_snr_falls_from_about_1175_to_about_one_in_213():
    schedule = NoiseSchedule.stable_diffusion()
    every = schedule.snr()
    assert (every.diff() < 0).all()
    # 1/0.00085 − 1 = 1175.47; ā at the end is 0.0046601
    assert every[0].item() == pytest.approx(1175.47, rel=1e-4)
    assert every[-1].item() == pytest.approx(0.0046601 / (1 - 0.0046601), rel=1e-4)
    assert torch.equal(schedule.snr(torch.tensor([7, 7, 500])), every[[7, 7, 500]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_latents_stay_half_and_lose_only_their_own_rounding(drawn, dtype):
    latents, noise, timesteps = drawn
    schedule = NoiseSchedule.stable_diffusion()
    half = schedule.add_noise(latents.to(dtype), noise.to(dtype), timesteps)
    exact = schedule.add_noise(latents.to(dtype).float(), noise.to(dtype).float(), timesteps)
    assert half.dtype == dtype
    assert torch.equal(half, exact.to(dtype))


def test_zero_terminal_snr_follows_the_papers_algorithm_in_float64_and_is_that_of_diffusers():
    """Lin et al. 2023, alg. 1."""
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    betas = numpy.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    roots = numpy.sqrt(numpy.cumprod(1 - betas))
    first, last = roots[0], roots[-1]
    moved = (roots - last) * (first / (first - last))
    ours = NoiseSchedule.stable_diffusion().with_zero_terminal_snr()
    numpy.testing.assert_allclose(ours.alphas_cumprod.double().numpy(), moved**2, rtol=2e-5, atol=1e-10)
    assert ours.snr()[-1] == 0 and ours.alphas_cumprod[0] == NoiseSchedule.stable_diffusion().alphas_cumprod[0]
    theirs = torch.cumprod(1 - rescale_zero_terminal_snr(torch.tensor(betas)), 0)
    numpy.testing.assert_allclose(ours.alphas_cumprod.double().numpy(), theirs.numpy(), rtol=2e-5, atol=1e-10)


def test_at_no_signal_the_input_is_the_noise_and_the_velocity_is_minus_the_image(drawn):
    latents, noise, _ = drawn
    schedule, last = NoiseSchedule.stable_diffusion().with_zero_terminal_snr(), torch.full((6,), 999)
    assert torch.equal(schedule.add_noise(latents, noise, last), noise)
    assert torch.equal(schedule.velocity(latents, noise, last), -latents)
