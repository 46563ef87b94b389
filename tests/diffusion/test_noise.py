"""Noise and timesteps: each image's own, with the statistics that the settings promise."""

import pytest
import torch

from library.diffusion.noise import NoiseSettings, perturbed, sample_noise

EVERY_KIND = [
    NoiseSettings(),
    NoiseSettings(offset=0.1),
    NoiseSettings(offset=0.1, adaptive_scale=0.05),
    NoiseSettings(multires_iterations=6, multires_discount=0.3),
    NoiseSettings(offset=0.1, offset_random=True),
]
KINDS = pytest.mark.parametrize("settings", EVERY_KIND, ids=["plain", "offset", "adaptive", "multires", "random offset"])


def some_latents(count: int, height: int = 16, width: int = 12) -> torch.Tensor:
    means = torch.tensor([0.0, 1.0, -2.0, 0.5]).view(1, 4, 1, 1)
    return torch.randn(count, 4, height, width, generator=torch.Generator().manual_seed(5)) + means


@KINDS
def test_an_image_gets_the_same_noise_in_any_batch(settings):
    latents, seeds = some_latents(5), [3, 2**63 - 1, 0, 17, 18]
    together = sample_noise(latents, torch.tensor(seeds), settings)
    for place in range(5):
        alone = sample_noise(latents[place : place + 1], seeds[place : place + 1], settings)
        assert torch.equal(alone[0], together[place])
    assert torch.equal(sample_noise(latents.flip(0), seeds[::-1], settings), together.flip(0))


@KINDS
def test_other_seeds_give_other_noise_and_the_same_seed_the_same(settings):
    latents = some_latents(1).repeat(3, 1, 1, 1)
    first, second, third = sample_noise(latents, [1, 2, 1], settings)
    assert torch.equal(first, third)
    assert not torch.allclose(first, second)


@KINDS
def test_drawing_leaves_the_global_random_state_alone(settings):
    before = torch.get_rng_state()
    sample_noise(some_latents(2), [1, 2], settings)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_has_the_type_of_the_latents_and_is_drawn_in_float32():
    latents = some_latents(2)
    half = sample_noise(latents.half(), [1, 2], NoiseSettings())
    assert half.dtype == torch.float16
    assert torch.equal(half, sample_noise(latents, [1, 2], NoiseSettings()).half())


def test_plain_noise_is_standard_normal():
    noise = sample_noise(torch.zeros(64, 4, 32, 32), range(64), NoiseSettings())
    # 262,144 values: the mean's standard error is 0.002, the deviation's 0.0014
    assert abs(noise.mean().item()) < 0.01
    assert noise.std().item() == pytest.approx(1, abs=0.007)
    assert abs((noise[1:] * noise[:-1]).mean().item()) < 0.01


def test_offset_shifts_whole_channels_with_its_deviation():
    latents, seeds = torch.zeros(500, 4, 4, 4), range(500)
    shift = sample_noise(latents, seeds, NoiseSettings(offset=0.3)) - sample_noise(latents, seeds, NoiseSettings())
    assert shift.std(dim=(2, 3)).max() < 1e-5
    assert shift[:, :, 0, 0].std().item() == pytest.approx(0.3, rel=0.07)
    assert abs(shift.mean().item()) < 0.03


@pytest.mark.parametrize("scale", [0.05, -0.08])
def test_adaptive_offset_follows_the_guides_formula_per_channel(scale):
    latents, seeds = some_latents(40), range(40)
    plain = sample_noise(latents, seeds, NoiseSettings())
    units = (sample_noise(latents, seeds, NoiseSettings(offset=1.0)) - plain)[:, :, 0, 0]
    adaptive = (sample_noise(latents, seeds, NoiseSettings(offset=0.1, adaptive_scale=scale)) - plain)[:, :, 0, 0]
    strength = (0.1 + scale * latents.mean(dim=(2, 3)).abs()).clamp(min=0)
    torch.testing.assert_close(adaptive, strength * units, atol=1e-5, rtol=1e-4)
    if scale < 0:
        assert (strength[:, 2] == 0).all()


def test_multires_noise_has_unit_deviation_and_more_coarse_structure_than_plain_noise():
    latents, seeds = torch.zeros(100, 4, 32, 32), range(100)

    def coarse_deviation(noise: torch.Tensor) -> float:
        return torch.nn.functional.avg_pool2d(noise, 8).std().item()

    plain = coarse_deviation(sample_noise(latents, seeds, NoiseSettings()))
    assert plain == pytest.approx(1 / 8, rel=0.1)
    for discount, at_least in ((0.3, 1.2), (0.8, 2.2)):
        noise = sample_noise(latents, seeds, NoiseSettings(multires_iterations=6, multires_discount=discount))
        torch.testing.assert_close(noise.std(dim=(1, 2, 3)), torch.ones(100))
        assert coarse_deviation(noise) > at_least * plain


def test_one_iteration_of_multires_noise_is_plain_noise_again():
    noise = sample_noise(torch.zeros(32, 4, 32, 32), range(32), NoiseSettings(multires_iterations=1))
    assert torch.nn.functional.avg_pool2d(noise, 8).std().item() == pytest.approx(1 / 8, rel=0.15)


def test_with_an_offset_the_pyramid_is_built_on_the_noise_that_has_it():
    latents, seeds = torch.zeros(8, 4, 16, 16), range(8)
    plain = sample_noise(latents, seeds, NoiseSettings())
    shifted = sample_noise(latents, seeds, NoiseSettings(offset=0.8))
    both = sample_noise(latents, seeds, NoiseSettings(offset=0.8, multires_iterations=1))
    # sd-scripts' order: offset noise first, then the pyramid's level of full size is added, then all is divided by its deviation
    expected = [2**0.5 * noise + (moved - noise) for noise, moved in zip(plain, shifted, strict=True)]
    torch.testing.assert_close(both, torch.stack([noise / noise.std() for noise in expected]))
    torch.testing.assert_close(both.std(dim=(1, 2, 3)), torch.ones(8))


def test_multires_noise_without_weight_for_coarser_levels_is_plain_noise_of_unit_deviation():
    none = sample_noise(torch.zeros(2, 4, 16, 16), range(2), NoiseSettings(multires_iterations=6, multires_discount=0.0))
    one = sample_noise(torch.zeros(2, 4, 16, 16), range(2), NoiseSettings(multires_iterations=1))
    torch.testing.assert_close(none, one)


def test_multires_noise_has_the_spectrum_of_the_recipe_that_users_know():
    """The recipe written out again, over many draws: deviations of the means of 16×16, 8×8 and 4×4 cells."""

    def recipe() -> torch.Tensor:
        noise = torch.randn(1, 4, 32, 32)
        for level in range(6):
            size = max(1, int(32 / (2 + 2 * torch.rand(()).item()) ** level))
            enlarge = torch.nn.Upsample(size=(32, 32), mode="bilinear")
            noise = noise + enlarge(torch.randn(1, 4, size, size)) * 0.6**level
            if size == 1:
                break
        return noise[0] / noise.std()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = torch.stack([recipe() for _ in range(400)])
    ours = sample_noise(torch.zeros(400, 4, 32, 32), range(400), NoiseSettings(multires_iterations=6, multires_discount=0.6))
    for cell in (4, 8, 16):
        deviations = [torch.nn.functional.avg_pool2d(noise, cell).std().item() for noise in (ours, theirs)]
        assert deviations[0] == pytest.approx(deviations[1], rel=0.06)


def test_levels_of_multires_noise_shrink_from_the_full_size_each(monkeypatch):
    """With a ratio of 2 each time, 32 → 16 → 8 → 4 → 2 → 1 and no more."""
    sizes = []
    enlarge = torch.nn.functional.interpolate

    def noted(coarse, **options):
        sizes.append(tuple(coarse.shape[-2:]))
        return enlarge(coarse, **options)

    monkeypatch.setattr("library.diffusion.noise.functional.interpolate", noted)
    monkeypatch.setattr("library.diffusion.noise.python_rng", lambda *place: type("Two", (), {"uniform": lambda self, low, high: low})())
    sample_noise(torch.zeros(1, 4, 32, 32), [4], NoiseSettings(multires_iterations=10))
    assert sizes == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


def test_multires_noise_takes_narrow_latents():
    noise = sample_noise(torch.zeros(1, 4, 1, 40), [4], NoiseSettings(multires_iterations=10, multires_discount=0.8))
    assert noise.isfinite().all()


@pytest.mark.parametrize(
    "values",
    [
        {"offset": -0.1},
        {"multires_iterations": -1},
        {"multires_iterations": 6, "multires_discount": -0.1},
        {"multires_iterations": 6, "multires_discount": 1.1},
        {"perturbation": -0.1},
    ],
)
def test_a_value_that_means_nothing_is_refused_without_naming_an_option(values):
    with pytest.raises(ValueError, match=r"negative|discount") as fault:
        NoiseSettings(**values)
    assert "--" not in str(fault.value)


def test_a_random_offset_is_uniform_up_to_the_strength_asked_for():
    latents, seeds = torch.zeros(2000, 4, 2, 2), range(2000)
    plain = sample_noise(latents, seeds, NoiseSettings())
    units = (sample_noise(latents, seeds, NoiseSettings(offset=1.0)) - plain)[:, :, 0, 0]
    shifts = (sample_noise(latents, seeds, NoiseSettings(offset=0.5, offset_random=True)) - plain)[:, :, 0, 0]
    strengths = shifts / units
    steady = units.abs().amin(dim=1) > 0.05  # where the quotient is not all rounding
    torch.testing.assert_close(strengths[steady][:, 0], strengths[steady][:, 3], atol=1e-4, rtol=1e-4)  # one an image
    shares = strengths[steady][:, 0] / 0.5
    assert shares.min() >= 0 and shares.max() <= 1.0001
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03) and shares.std().item() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("random", [False, True])
def test_perturbed_noise_is_the_noise_and_a_share_of_other_noise(random):
    """Ning et al. 2023, alg. 1: ε + γ·ξ, ξ independent of ε."""
    settings = NoiseSettings(perturbation=0.2, perturbation_random=random)
    seeds = range(400)
    noise = sample_noise(torch.zeros(400, 4, 8, 8), seeds, settings)
    assert torch.equal(noise, sample_noise(torch.zeros(400, 4, 8, 8), seeds, NoiseSettings()))  # the target stays plain
    more = perturbed(noise, seeds, settings) - noise
    assert abs((more * noise).mean().item()) < 2e-3
    strengths = more.std(dim=(1, 2, 3))
    if random:
        assert strengths.mean().item() == pytest.approx(0.1, abs=0.01) and strengths.max() < 0.23
    else:
        assert strengths.mean().item() == pytest.approx(0.2, rel=0.01)
    alone = perturbed(noise[7:8], [7], settings)
    assert torch.equal(alone[0], perturbed(noise, seeds, settings)[7])


def test_without_perturbation_the_input_has_the_targets_noise():
    noise = torch.randn(2, 4, 3, 3)
    assert perturbed(noise, [1, 2], NoiseSettings()) is noise
