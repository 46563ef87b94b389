"""The moments and names of samples, and that drawing leaves no trace in the training."""

import random
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from library.pictures.prompt_files import SamplePrompt
from library.training.samples.samples import SamplePlan, Samples
from tests.messages import message
from tests.training.samples.texts import written

# ---- moments


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"),
    [(3, None, ["3", "6"]), (None, 2, ["e2", "e4"]), (1, 2, ["e2", "e4"]), (None, None, [])],
)
def test_samples_are_due_by_steps_or_by_epochs_and_epochs_win(tmp_path, steps, epochs, expected):
    samples = Samples([SamplePrompt("a")], SamplePlan(tmp_path, every_n_steps=steps, every_n_epochs=epochs))
    due = ["0"] if samples.due(0, 0, False) else []
    for step in range(1, 9):  # epochs of two updates
        due += [str(step)] if samples.due(step, step // 2, False) else []
        due += [f"e{step // 2}"] if step % 2 == 0 and samples.due(step, step // 2, True) else []
    assert due == expected


# ---- drawing


class Painter:
    """Replaces the real generator: notes what it was asked, draws from every global stream, fails on request."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, model, settings, device) -> Image.Image:
        self.asked.append(settings)
        torch.manual_seed(1)
        torch.randn(3), numpy.random.rand(3), random.random()
        if "fail" in settings.prompt:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return Image.new("RGB", (settings.width, settings.height), (settings.steps, 0, 0))


def test_files_are_named_as_users_know_them_and_hold_their_prompt(tmp_path):
    painter = Painter()
    prompts = [SamplePrompt("a 犬", "bad", 64, 72, 5, 3.5, 7), SamplePrompt("b", sampler="euler", width=64, height=64)]
    samples = Samples(prompts, SamplePlan(tmp_path, "mine", every_n_steps=1, sampler="ddim", clip_skip=2), painter)
    first, second = samples.draw(None, 12, None, "cpu")
    assert first.parent == tmp_path / "sample"
    assert re.fullmatch(r"mine_000012_00_\d{14}_7\.png", first.name)
    assert re.fullmatch(r"mine_000012_01_\d{14}\.png", second.name)
    assert re.fullmatch(r"mine_e000003_00_\d{14}_7\.png", samples.draw(None, 12, 3, "cpu")[0].name)
    with Image.open(first) as image:
        assert image.size == (64, 72)
        described = "a 犬\nNegative prompt: bad\nSteps: 5, Sampler: ddim, CFG scale: 3.5, Seed: 7, Size: 64x72, Clip skip: 2"
        assert image.text["parameters"] == described
    asked = painter.asked[0]
    assert (asked.prompt, asked.negative, asked.guidance, asked.seed, asked.clip_skip) == ("a 犬", "bad", 3.5, 7, 2)
    assert [painter.asked[1].sampler, painter.asked[1].seed is not None] == ["euler", True]
    assert (samples.drawn, samples.failed) == (4, 0)
    assert not list(samples.folder.glob("*.tmp"))


def test_a_seed_for_all_gives_prompts_without_one_the_same_picture_each_time(tmp_path):
    """The first prompt has its seed, the second the next one; a seed of a prompt's own is kept."""
    prompts = [SamplePrompt("a"), SamplePrompt("b", seed=1), SamplePrompt("c")]
    seeds = []

    def generate(model, settings, device):
        seeds.append(settings.seed)
        return Image.new("RGB", (8, 8))

    samples = Samples(prompts, SamplePlan(tmp_path, "cat", 1, seed=40), generate)
    for step in (1, 2):
        names = [path.name for path in samples.draw(None, step, None, torch.device("cpu"))]
        assert [name.rpartition("_")[2] for name in names] == ["40.png", "1.png", "42.png"]
    assert seeds == [40, 1, 42] * 2
    assert (
        Samples.from_options(
            options(tmp_path, sample_prompts=written(tmp_path, "p.txt", "a"), sample_every_n_steps=1, sample_seed=7)
        ).plan.seed
        == 7
    )


def test_drawing_leaves_every_random_stream_as_it_was(tmp_path):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), [numpy.asarray(part).tolist() for part in numpy.random.get_state()[1:]]

    torch.manual_seed(99)
    before = states()
    Samples([SamplePrompt("a", width=64, height=64), SamplePrompt("fail")], SamplePlan(tmp_path), Painter()).draw(None, 1, None, "cpu")
    assert states() == before


def test_a_failing_sample_is_told_and_counted_and_the_others_are_drawn(tmp_path, heard):
    prompts = [SamplePrompt("fail"), SamplePrompt("b", width=64, height=64), SamplePrompt("fail too")]
    samples = Samples(prompts, SamplePlan(tmp_path), Painter())
    assert len(samples.draw(None, 1, None, "cpu")) == 1
    assert (samples.drawn, samples.failed) == (1, 2)
    assert len(heard.warnings) == 1
    message(heard.warnings, "samples of update 1", "2 of 3", "CUDA out of memory.", "continues")
    assert samples.places() == [f"samples: {tmp_path / 'sample' / 'index.html'} (1 image, 2 failed)"]


def test_a_folder_that_cannot_be_written_does_not_end_the_run(tmp_path):
    written(tmp_path, "sample", "in the way")
    samples = Samples([SamplePrompt("a", width=64, height=64)], SamplePlan(tmp_path), Painter())
    assert samples.draw(None, 1, None, "cpu") == []
    assert samples.failed == 1
    assert samples.places() == [f"samples: {tmp_path / 'sample'} (0 images, 1 failed)"]


def test_prompts_pass_through_what_the_method_does_to_captions(tmp_path):
    painter = Painter()
    samples = Samples([SamplePrompt("a cat", "a dog", 64, 64, seed=1)], SamplePlan(tmp_path), painter)
    samples.draw(None, 1, None, "cpu", lambda text, rng: text.replace("cat", "cat cat1"))
    assert (painter.asked[0].prompt, painter.asked[0].negative) == ("a cat cat1", "a dog")


# ---- options


def options(folder: Path, **chosen: object) -> TrainNetwork:
    return build(TrainNetwork, {"output_dir": str(folder), "output_name": "n", "sample_sampler": "euler"} | chosen, {})


def test_options_without_prompts_or_interval_mean_no_samples(tmp_path):
    path = str(written(tmp_path, "p.txt", "a"))
    assert Samples.from_options(options(tmp_path)) is None
    assert Samples.from_options(options(tmp_path, sample_prompts=path)) is None
    samples = Samples.from_options(options(tmp_path, sample_prompts=path, sample_every_n_epochs=2), Painter())
    assert samples.due(9, 2, True)
    assert samples.draw(None, 9, 2, "cpu")[0].name.startswith("n_e000002_00_")


def test_samples_before_training_are_drawn_once_in_the_life_of_a_run(tmp_path):
    path = str(written(tmp_path, "p.txt", "a"))
    samples = Samples.from_options(options(tmp_path, sample_prompts=path, sample_at_first=True), Painter())
    assert samples.due_at_first(0) and not samples.due_at_first(7)
    assert not samples.due(1, 1, True) and not samples.due(1, 1, False)
    asked = options(tmp_path, sample_prompts=path, sample_every_n_steps=1)
    assert not Samples.from_options(asked, Painter()).due_at_first(0)


def test_reading_prompts_imports_no_torch():
    code = "import sys, library.training.samples.samples; print('torch' in sys.modules, 'PIL' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True)
    assert ended.stdout.strip() == "False False"


# ---- the real generator


def test_a_real_model_is_drawn_with_and_left_as_it_was(tiny_v1, tmp_path):
    from library.model.load import load

    model = load(str(tiny_v1), False, False)
    networks = (model.unet, model.text_encoder, model.vae)
    model.unet.train()
    model.text_encoder.train()
    model.vae.eval()
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    prompts = [SamplePrompt("a (red:1.3) cat", "bad", 64, 64, 2, 7.5, 3), SamplePrompt("a dog", "", 64, 64, 2, 7.5, None, "euler_a")]
    samples = Samples(prompts, SamplePlan(tmp_path, every_n_steps=1, clip_skip=2))
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first = samples.draw(model, 1, None, torch.device("cpu"))
    assert torch.equal(torch.randn(3), expected)
    assert [network.training for network in networks] == [True, True, False]
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())
    for network, old in zip(networks, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in network.state_dict().items())
    again = samples.draw(model, 2, None, torch.device("cpu"))
    assert len(first) == len(again) == 2
    assert numpy.array_equal(numpy.asarray(Image.open(first[0])), numpy.asarray(Image.open(again[0])))
    assert not numpy.array_equal(numpy.asarray(Image.open(first[1])), numpy.asarray(Image.open(again[1])))


# ---- a file that changes, a run that is to stop


def test_prompts_that_are_changed_during_the_run_are_drawn_from_then_on(tmp_path, heard):
    path = written(tmp_path, "p.txt", "a cat --w 64 --h 64\n")
    painter = Painter()
    samples = Samples.from_options(options(tmp_path / "out", sample_prompts=str(path), sample_every_n_steps=1), painter)
    for text, drawn in (
        ("a cat --w 64 --h 64\n", ["a cat"]),
        ("a dog --w 64 --h 64\na hen --w 64 --h 64\n", ["a dog", "a hen"]),
        ("a hen --w many\n", ["a dog", "a hen"]),
        (None, ["a dog", "a hen"]),
    ):
        path.unlink() if text is None else path.write_text(text, encoding="utf-8")
        samples.draw(None, 1, None, "cpu")
        assert [prompt for _, prompt in samples.latest] == drawn
    assert sum("2 prompts" in line for line in heard.lines) == 1
    assert heard.text.count("--w 'many'") == 1
    message(heard.lines, "previous prompts")


def test_no_picture_is_begun_once_the_run_is_to_stop(tmp_path, heard):
    prompts = [SamplePrompt(f"a {number}", width=64, height=64) for number in range(5)]
    samples = Samples(prompts, SamplePlan(tmp_path), Painter())
    assert len(samples.draw(None, 1, None, "cpu", stop=lambda: len(list(samples.folder.glob("*.png"))) == 2)) == 2
    assert (samples.drawn, samples.failed) == (2, 0) and "3 of 5 skipped" in heard.text
