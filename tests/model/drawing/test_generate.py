"""Generation against diffusers' own pipeline, and that it leaves no trace in the training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from library.model.drawing.generate import GenerateSettings, generate
from library.model.drawing.samplers import SAMPLERS
from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from tests.messages import refused

# numpy 2 finds diffusers' schedulers old-fashioned, thousands of times
pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{package}.*") for package in ("diffusers", "numpy")]

SETTINGS = GenerateSettings("a photo of a cat", negative="ugly", width=64, height=64, steps=3, guidance=5.0, seed=1)


def _pixels(image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def _pipeline(model, sampler, prediction):
    """diffusers' pipeline around the same parts, with its scheduler set by hand."""
    import diffusers

    schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "steps_offset": 1,
    }
    scheduler = {
        "ddim": lambda: diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **schedule),
        "euler": lambda: diffusers.EulerDiscreteScheduler(**schedule),
        "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **schedule),
    }[sampler]()
    pipeline = diffusers.StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer.tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("version", "sampler", "prediction"),
    [
        ("v1", "ddim", "epsilon"),
        ("v1", "euler", "epsilon"),
        ("v1", "pndm", "epsilon"),
        ("v2", "ddim", "v_prediction"),
        ("v2", "euler", "v_prediction"),
    ],
)
def test_images_equal_those_of_diffusers_pipeline(version, sampler, prediction, models):
    model = replace(models[version], prediction=prediction)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    ours = generate(model, replace(SETTINGS, sampler=sampler), latents=latents)
    theirs = _pipeline(model, sampler, prediction)(
        SETTINGS.prompt,
        negative_prompt=SETTINGS.negative,
        num_inference_steps=3,
        guidance_scale=5.0,
        latents=latents.clone(),
        height=64,
        width=64,
    ).images[0]
    assert np.abs(_pixels(ours) - _pixels(theirs)).max() <= 1
    assert _pixels(ours).std() > 1


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if not name.startswith("k_")])
def test_every_sampler_gives_the_same_image_for_the_same_seed_and_touches_no_global_randomness(sampler, models):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    settings = replace(SETTINGS, sampler=sampler, guidance=1.0, steps=2)
    first = generate(models["v1"], settings)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(456)
    assert np.array_equal(_pixels(generate(models["v1"], settings)), _pixels(first))


def test_the_sixteen_names_of_the_command_line_are_there():
    names = "ddim pndm lms euler euler_a heun dpm_2 dpm_2_a dpmsolver dpmsolver++ dpmsingle k_lms k_euler k_euler_a k_dpm_2 k_dpm_2_a"
    assert set(SAMPLERS) == set(names.split())
    assert all(SAMPLERS[name] is SAMPLERS[name.removeprefix("k_")] for name in names.split())  # k_ is another spelling


def test_an_unknown_sampler_is_told(models):
    with refused("OPT-006", "--sample_sampler magic", "euler_a"):
        generate(models["v1"], replace(SETTINGS, sampler="magic"))


def test_each_module_gets_its_mode_back(models):
    model = models["v1"]
    model.unet.train()
    model.unet.mid_block.eval()
    before = {name: module.training for name, module in model.unet.named_modules()}
    generate(model, replace(SETTINGS, steps=1))
    assert {name: module.training for name, module in model.unet.named_modules()} == before
    model.unet.eval()


def test_weights_in_the_prompt_and_clip_skip_change_the_image(models):
    plain = _pixels(generate(models["v1"], SETTINGS))
    assert not np.array_equal(plain, _pixels(generate(models["v1"], replace(SETTINGS, prompt="a photo of a (cat:1.9)"))))
    assert not np.array_equal(plain, _pixels(generate(models["v1"], replace(SETTINGS, clip_skip=2))))
    assert np.array_equal(plain, _pixels(generate(models["v1"], replace(SETTINGS, prompt="a photo of a (cat:1.0)"))))


def test_prompts_beyond_75_tokens_are_read_to_their_end(models):
    long = "cat, " * 60
    first = _pixels(generate(models["v1"], replace(SETTINGS, prompt=long + "on the moon")))
    other = _pixels(generate(models["v1"], replace(SETTINGS, prompt=long + "in the sea")))
    assert not np.array_equal(first, other)


def test_sides_are_rounded_down_to_multiples_of_eight(models):
    assert generate(models["v1"], replace(SETTINGS, width=79, height=64, steps=1)).size == (72, 64)


def test_it_runs_under_autocast(models):
    plain = _pixels(generate(models["v1"], SETTINGS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = _pixels(generate(models["v1"], SETTINGS))
    assert 0 < np.abs(coarse - plain).mean() < 20


def test_it_runs_with_half_precision_weights(checkpoints):
    from library.model.load import load

    assert _pixels(generate(load(checkpoints["v1"], dtype=torch.bfloat16), replace(SETTINGS, steps=1))).std() > 1


def test_the_models_own_tokenizer_is_left_as_it_was(models):
    generate(models["v1"], replace(SETTINGS, steps=1))
    assert (models["v1"].tokenizer.windows, models["v1"].tokenizer.weighted) == (1, False)
    assert ClipTokenizer(V1)("a")[0].equal(models["v1"].tokenizer("a")[0])
