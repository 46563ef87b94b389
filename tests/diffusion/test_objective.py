"""The loss and its weights against the papers' formulas, transcribed in float64."""

import numpy
import pytest
import torch

from library.diffusion.objective import Objective, ObjectiveSettings
from library.diffusion.pointwise import PointwiseSettings
from library.diffusion.schedule import NoiseSchedule

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
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(gamma))), expected, rtol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_of_a_v_model_is_min_snr_gamma_over_snr_plus_one(gamma):
    expected = numpy.minimum(SNR, gamma) / (SNR + 1)
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "v_prediction", ObjectiveSettings(gamma))), expected, rtol=1e-6)


def test_both_kinds_of_min_snr_weigh_the_error_of_the_image_alike():
    """In the paper the weight of the error of x₀ is min(snr, γ) for every kind: |ε̂−ε|² = snr·|x̂₀−x₀|², |v̂−v|² = (snr+1)·|x̂₀−x₀|²."""
    numpy.testing.assert_allclose(
        weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(5.0))) * SNR, numpy.minimum(SNR, 5), rtol=1e-6
    )
    numpy.testing.assert_allclose(
        weights_of(Objective(SCHEDULE, "v_prediction", ObjectiveSettings(5.0))) * (SNR + 1), numpy.minimum(SNR, 5), rtol=1e-6
    )


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
    losses = Objective(schedule, "v_prediction", ObjectiveSettings(scale_v_like_noise=True))(answered, velocity, timesteps)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=0)


def test_min_snr_and_the_v_scale_together_change_the_scale_once():
    both = weights_of(Objective(SCHEDULE, "v_prediction", ObjectiveSettings(5.0, scale_v_like_noise=True)))
    numpy.testing.assert_allclose(both, numpy.minimum(SNR, 5) / (SNR + 1), rtol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("like_noise", [False, True])
def test_min_snr_and_debiased_together_multiply(gamma, like_noise):
    """As sd-scripts does: the loss × the one weight × the other; each kind of model has its own of each."""
    both = weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(gamma, debiased=True)))
    numpy.testing.assert_allclose(both, numpy.minimum(SNR, gamma) / SNR / SNR**0.5, rtol=1e-6)
    both = weights_of(Objective(SCHEDULE, "v_prediction", ObjectiveSettings(gamma, debiased=True, scale_v_like_noise=like_noise)))
    numpy.testing.assert_allclose(both, numpy.minimum(SNR, gamma) / (SNR + 1) * SNR**0.5 / (SNR + 1), rtol=1e-6)
    liked = weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(gamma, debiased=True, v_like=0.1)))
    numpy.testing.assert_allclose(liked, numpy.minimum(SNR, gamma) / SNR**1.5 * (1 + 0.1 * (SNR + 1) / SNR), rtol=1e-6)


def test_half_predictions_are_compared_in_float32():
    predicted, target = torch.full((1, 4, 64, 64), 300.0, dtype=torch.float16), torch.zeros(1, 4, 64, 64)
    assert Objective(SCHEDULE, "epsilon")(predicted, target, torch.tensor([5])).item() == 90000.0


def test_gradients_carry_the_weight():
    predicted = torch.zeros(2, 1, 1, 1, requires_grad=True)
    timesteps = torch.tensor([10, 990])
    Objective(SCHEDULE, "epsilon", ObjectiveSettings(5.0))(predicted, torch.ones(2, 1, 1, 1), timesteps).sum().backward()
    numpy.testing.assert_allclose(predicted.grad.flatten().numpy(), -2 * (numpy.minimum(SNR, 5) / SNR)[[10, 990]], rtol=1e-6)


def problem(prediction: str, schedule: NoiseSchedule = SCHEDULE, **settings: object) -> str:
    with pytest.raises(ValueError) as fault:
        Objective(schedule, prediction, ObjectiveSettings(**settings))
    assert "--" not in str(fault.value)
    return str(fault.value)


def test_settings_without_a_weight_are_refused_without_naming_an_option():
    assert "min_snr_gamma is over 0" in problem("epsilon", min_snr_gamma=0.0)
    assert "v_like not negative" in problem("epsilon", v_like=-0.1)
    assert "scale_v_like_noise is for" in problem("epsilon", scale_v_like_noise=True)
    assert "v_like is for" in problem("v_prediction", v_like=0.1)
    ends_in_noise = SCHEDULE.with_zero_terminal_snr()
    assert "infinite weight" in problem("epsilon", ends_in_noise, debiased=True)
    assert "infinite weight" in problem("epsilon", ends_in_noise, v_like=0.1)
    Objective(ends_in_noise, "v_prediction", ObjectiveSettings(debiased=True))
    for values in ({"c": 0.0}, {"c": 2.0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match="over 0"):
            PointwiseSettings("huber", **values)
    PointwiseSettings("huber", "constant", c=2.0)


# Each way to weigh, transcribed from its paper for a single image: loss of ε̂ or v̂ [4,h,w], from x₀, ε and ā in float64.

ALPHA_OF = {t: ALPHAS[t] for t in (0, 3, 250, 700, 999)}


def hang_2023(x0, predicted_x0, snr):
    """Min-SNR, eq. 7: min(snr, 5)·|x₀ − x̂₀|², for a model of any kind through the x₀ that its answer means."""
    return min(snr, 5.0) * ((x0 - predicted_x0) ** 2).mean()


def yu_2023(x0, predicted_x0, snr):
    """Debiased: 1/√snr·|ε − ε̂|², and |ε − ε̂|² = snr·|x₀ − x̂₀|²."""
    return snr / snr**0.5 * ((x0 - predicted_x0) ** 2).mean()


def salimans_2022(x0, predicted_x0, snr):
    """The loss of ε, sec. 4: snr·|x₀ − x̂₀|²."""
    return snr * ((x0 - predicted_x0) ** 2).mean()


TRANSCRIBED = [
    ("epsilon", ObjectiveSettings(min_snr_gamma=5.0), hang_2023),
    ("v_prediction", ObjectiveSettings(min_snr_gamma=5.0), hang_2023),
    ("epsilon", ObjectiveSettings(debiased=True), yu_2023),
    ("v_prediction", ObjectiveSettings(debiased=True), yu_2023),
    ("epsilon", ObjectiveSettings(), salimans_2022),
    ("v_prediction", ObjectiveSettings(scale_v_like_noise=True), salimans_2022),
    ("v_prediction", ObjectiveSettings(debiased=True, scale_v_like_noise=True), yu_2023),
]


@pytest.mark.parametrize(("prediction", "settings", "paper"), TRANSCRIBED)
@pytest.mark.parametrize("timestep", ALPHA_OF)
def test_loss_and_gradient_are_those_of_the_papers_loss_of_the_image(prediction, settings, paper, timestep):
    """The answer is turned into the x₀ that it means, that into the paper's loss, and both are derived by autograd in float64."""
    generator = torch.Generator().manual_seed(timestep)
    x0, noise, error = (torch.randn(1, 4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    alpha = torch.tensor(ALPHA_OF[timestep])
    noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    target = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    answer = (target + 0.3 * error).requires_grad_()
    if prediction == "epsilon":
        meant = (noisy - (1 - alpha).sqrt() * answer) / alpha.sqrt()
    else:
        meant = alpha.sqrt() * noisy - (1 - alpha).sqrt() * answer
    expected = paper(x0, meant, (alpha / (1 - alpha)).item())
    (slope,) = torch.autograd.grad(expected, answer)
    given = answer.detach().float().requires_grad_()
    loss = Objective(SCHEDULE, prediction, settings)(given, target.float(), torch.tensor([timestep]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    torch.testing.assert_close(given.grad.double(), slope, rtol=1e-4, atol=1e-6 * slope.abs().max().item())


def test_the_papers_weights_in_closed_form():
    """At full precision, where rounding of inputs does not blur: 1/√snr for ε, √snr/(snr+1) for v, 1 + k·(snr+1)/snr."""
    numpy.testing.assert_allclose(weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(debiased=True))), SNR**-0.5, rtol=1e-6)
    debiased = weights_of(Objective(SCHEDULE, "v_prediction", ObjectiveSettings(debiased=True)))
    numpy.testing.assert_allclose(debiased, SNR**0.5 / (SNR + 1), rtol=1e-6)
    like_v = weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(v_like=0.2)))
    numpy.testing.assert_allclose(like_v, 1 + 0.2 * (SNR + 1) / SNR, rtol=1e-6)
    both = weights_of(Objective(SCHEDULE, "epsilon", ObjectiveSettings(5.0, v_like=0.2)))
    numpy.testing.assert_allclose(both, numpy.minimum(SNR, 5) / SNR * (1 + 0.2 * (SNR + 1) / SNR), rtol=1e-6)


def test_v_like_loss_adds_the_error_that_a_v_model_has():
    """v̂ follows from ε̂ and x_t: v = (ε − √(1−ā)·x_t)/√ā."""
    generator = torch.Generator().manual_seed(4)
    noise, answer, noisy = (torch.randn(3, 4, 6, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    timesteps = torch.tensor([5, 400, 990])
    alphas = torch.tensor(ALPHAS)[timesteps].view(-1, 1, 1, 1)
    velocity, answered = ((one - (1 - alphas).sqrt() * noisy) / alphas.sqrt() for one in (noise, answer))
    expected = (answer - noise).square().mean(dim=(1, 2, 3)) + 0.3 * (answered - velocity).square().mean(dim=(1, 2, 3))
    losses = Objective(SCHEDULE, "epsilon", ObjectiveSettings(v_like=0.3))(answer, noise, timesteps)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=0)


def thresholds(schedule: str, c: float) -> numpy.ndarray:
    sigmas = ((1 - ALPHAS) / ALPHAS) ** 0.5
    return {
        "constant": numpy.full(1000, c),
        "exponential": numpy.exp(-(-numpy.log(c) / 1000) * numpy.arange(1000)),  # Khrapov et al. 2024: e^(−αt) with e^(−αT) = c
        "snr": (1 - c) / (1 + sigmas) ** 2 + c,
    }[schedule]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
def test_huber_losses_and_gradients_follow_the_formula_in_float64(prediction, schedule):
    generator = torch.Generator().manual_seed(9)
    timesteps = torch.tensor([0, 400, 999])
    difference = torch.randn(3, 4, 5, 5, generator=generator, dtype=torch.float64)
    difference[:, 0] *= 1e-4  # where √(d²+δ²) − δ would lose its digits in float32
    delta = torch.tensor(2.0 * thresholds(schedule, 0.1))[timesteps].view(-1, 1, 1, 1)
    for kind, factor in (("huber", 2 * delta), ("smooth_l1", torch.full_like(delta, 2.0))):
        exact = difference.clone().requires_grad_()
        expected = (factor * ((exact**2 + delta**2).sqrt() - delta)).mean(dim=(1, 2, 3))
        expected.sum().backward()
        given = difference.float().requires_grad_()
        settings = ObjectiveSettings(pointwise=PointwiseSettings(kind, schedule, 0.1, 2.0))
        losses = Objective(SCHEDULE, prediction, settings)(given, torch.zeros(3, 4, 5, 5), timesteps)
        losses.sum().backward()
        torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-6, atol=0)
        torch.testing.assert_close(given.grad.double(), exact.grad, rtol=1e-5, atol=1e-12)


def test_l1_is_the_mean_absolute_error_and_takes_weights():
    predicted, target = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    settings = ObjectiveSettings(5.0, pointwise=PointwiseSettings("l1"))
    losses = Objective(SCHEDULE, "epsilon", settings)(predicted, target, torch.tensor([2, 900]))
    expected = [(predicted[place] - target[place]).abs().mean() * min(SNR[t], 5) / SNR[t] for place, t in enumerate((2, 900))]
    torch.testing.assert_close(losses, torch.stack(expected).float())


def test_a_mask_takes_errors_out_and_their_gradients_and_leaves_the_divisor():
    predicted = torch.ones(2, 4, 2, 2, requires_grad=True)
    masks = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]).unsqueeze(1)
    losses = Objective(SCHEDULE, "epsilon")(predicted, torch.zeros(2, 4, 2, 2), torch.tensor([1, 1]), masks)
    assert losses.tolist() == [1.5 / 4, 1.0]
    losses.sum().backward()
    torch.testing.assert_close(predicted.grad, (masks * 2 / 16).expand(2, 4, 2, 2))


def test_at_no_signal_min_snr_has_its_limit():
    schedule = SCHEDULE.with_zero_terminal_snr()
    for prediction, limit in (("epsilon", 1.0), ("v_prediction", 0.0)):
        weights = Objective(schedule, prediction, ObjectiveSettings(5.0)).weights
        assert weights.isfinite().all() and weights[-1].item() == limit
