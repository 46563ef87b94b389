"""The loss and its weights against the papers' formulas, transcribed in float64."""

import numpy
import pytest
import torch

from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.errors import UserError

SCHEDULE = NoiseSchedule.stable_diffusion()
ALPHAS = SCHEDULE.alphas_cumprod.double().numpy()
SNR = ALPHAS / (1 - ALPHAS)


def weights_of(objective: Objective) -> numpy.ndarray:
    """The weights as the loss shows them: a prediction that is wrong by 1 everywhere has a squared error of 1."""
    target = torch.zeros(1000, 1, 1, 1)
    return objective(target + 1, target, torch.arange(1000)).double().numpy()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_without_options_the_loss_is_the_mean_squared_error_of_each_image(prediction):
    predicted, target = torch.randn(3, 4, 8, 6), torch.randn(3, 4, 8, 6)
    losses = Objective(SCHEDULE, prediction)(predicted, target, torch.tensor([0, 10, 999]))
    assert losses.dtype == torch.float32
    for place in range(3):
        torch.testing.assert_close(losses[place], torch.nn.functional.mse_loss(predicted[place], target[place]))


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_of_an_epsilon_model_is_min_snr_gamma_over_snr(gamma):
    expected = numpy.minimum(SNR, gamma) / SNR
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "epsilon", gamma)), expected, rtol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_of_a_v_model_is_min_snr_gamma_over_snr_plus_one(gamma):
    expected = numpy.minimum(SNR, gamma) / (SNR + 1)
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "v_prediction", gamma)), expected, rtol=1e-6)


def test_both_kinds_of_min_snr_weigh_the_error_of_the_image_alike():
    """In the paper the weight of the error of x₀ is min(snr, γ) for every kind: |ε̂−ε|² = snr·|x̂₀−x₀|², |v̂−v|² = (snr+1)·|x̂₀−x₀|²."""
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "epsilon", 5.0)) * SNR, numpy.minimum(SNR, 5), rtol=1e-6)
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "v_prediction", 5.0)) * (SNR + 1), numpy.minimum(SNR, 5), rtol=1e-6)


def test_scaled_v_loss_is_the_epsilon_loss_of_the_same_error():
    generator = torch.Generator().manual_seed(2)
    latents, noise, error = (torch.randn(6, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    timesteps = torch.tensor([0, 100, 300, 600, 900, 999])
    schedule = NoiseSchedule(SCHEDULE.alphas_cumprod.double())
    velocity = schedule.velocity(latents, noise, timesteps)
    answered = velocity + error
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = schedule.add_noise(latents, noise, timesteps)
    noise_answered = alphas.sqrt() * answered + (1 - alphas).sqrt() * noisy
    expected = (noise_answered - noise).square().mean(dim=(1, 2, 3))
    losses = Objective(schedule, "v_prediction", scale_v_like_noise=True)(answered, velocity, timesteps)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=0)


def test_min_snr_and_the_v_scale_together_change_the_scale_once():
    both = weights_of(Objective(SCHEDULE, "v_prediction", 5.0, scale_v_like_noise=True))
    numpy.testing.assert_allclose(both, numpy.minimum(SNR, 5) / (SNR + 1), rtol=1e-6)


def test_half_predictions_are_compared_in_float32():
    predicted, target = torch.full((1, 4, 64, 64), 300.0, dtype=torch.float16), torch.zeros(1, 4, 64, 64)
    assert Objective(SCHEDULE, "epsilon")(predicted, target, torch.tensor([5])).item() == 90000.0


def test_gradients_carry_the_weight():
    predicted = torch.zeros(2, 1, 1, 1, requires_grad=True)
    timesteps = torch.tensor([10, 990])
    Objective(SCHEDULE, "epsilon", 5.0)(predicted, torch.ones(2, 1, 1, 1), timesteps).sum().backward()
    numpy.testing.assert_allclose(predicted.grad.flatten().numpy(), -2 * (numpy.minimum(SNR, 5) / SNR)[[10, 990]], rtol=1e-6)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="--min_snr_gamma 0"):
        Objective(SCHEDULE, "epsilon", min_snr_gamma=0.0)
    with pytest.raises(UserError, match="--scale_v_pred_loss_like_noise_pred"):
        Objective(SCHEDULE, "epsilon", scale_v_like_noise=True)
