"""--dataset_class in whole runs on the tiny model: training, resuming, workers, refusals, and the example of docs/dataset_class.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import fine_tune
import train_db
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from library.data.batching.sampler import EpochSampler
from library.data.loading.loader import EpochLoader, Workers
from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.planning.custom_dataset import CustomDataset, open_custom
from library.training.planning.inputs import planned_custom
from tests.messages import message, refusal, refusals, refused
from tests.scripts.running import kept, largest_difference, run_in_process, tensors_equal
from tools import cache_latents

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dataset_class.md").read_text(encoding="utf-8")
CODE = '''
import random
from pathlib import Path

import torch

WORDS = "{words}"


class Batches:
    """{length} batches of one or two random pictures; what it was asked for goes to asked.txt."""

    def __init__(self, tokenizer, max_token_length, resolution, debug_dataset):
        assert type(tokenizer).__name__ == "CLIPTokenizer" and (max_token_length, resolution) == (None, (64, 48)), "the options' values"
        self.epoch = 0

    def __len__(self):
        return {length}

    def set_current_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        with Path("asked.txt").open("a", encoding="utf-8") as file:
            file.write(f"{{self.epoch}}:{{index}} ")
        count = 1 + index % 2
        generator = torch.Generator().manual_seed(index)
        size = (count, 3, 64, 48) if index % 2 else (count, 3, 48, 64)
        images = torch.rand(size, generator=generator) * 2 - 1
        if random.random() < 0.5 or torch.rand(()) < 0.5:
            images = images.flip(3)
        return {{"images": images, "captions": [f"{{WORDS}} {{index}} {{row}}" for row in range(count)]{more}}}


class Latents(Batches):
    def __getitem__(self, index):
        count = 1 + index % 2
        latents = torch.randn(count, 4, 6, 8, generator=torch.Generator().manual_seed(index))
        masks = torch.ones(count, 48, 64)
        return {{"latents": latents, "captions": ["a"] * count, "loss_weights": torch.full((count,), 0.5), "masks": masks, "extra": 1}}


class Grey(Batches):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | {{"images": batch["images"].abs()}}


class Wild(Latents):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | ({{"latents": batch["latents"] * 1e30}} if index == 3 else {{}})


class Handle(Batches):
    def __init__(self, *arguments):
        self.file = Path(__file__).open(encoding="utf-8")


class Failing(Batches):
    def __init__(self, *arguments):
        raise ValueError("there is no archive")


class Strange(Batches):
    def __init__(self, folder):
        pass


class Empty(Batches):
    def __len__(self):
        return 0


class Endless:
    def __getitem__(self, index):
        return {{}}


class Third(Batches):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | ({{"captions": []}} if index == 2 else {{}})
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the runs; modules that are read from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    write_class(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write_class(folder: Path, name: str = "my_batches", words: str = "a photo", length: int = 5, more: str = "") -> None:
    (folder / f"{name}.py").write_text(CODE.format(words=words, length=length, more=more), encoding="utf-8")


@pytest.fixture
def command(tiny_v1: Path, folder: Path):
    """`command(name, *changes)` trains a LoRA into <name>: 2 epochs of 5 batches."""

    def arguments(name: str, *changes: object, script: Any = train_network) -> list[str]:
        fixed = ["--pretrained_model_name_or_path", tiny_v1, "--dataset_class", "my_batches.Batches", "--resolution", "64,48"]
        mine = ["--network_module", "networks.lora", "--network_dim", 2] if script is train_network else []
        more = ["--output_dir", folder / name, "--output_name", "cat", "--max_train_epochs", 2, "--seed", 7, "--learning_rate", "1e-3"]
        return [str(item) for item in (*fixed, *mine, *more, "--max_data_loader_n_workers", 0, *changes)]

    def run(name: str, *changes: object, script: Any = train_network, code: int = 0) -> Path:
        assert run_in_process(script.main, *arguments(name, *changes, script=script)) == code
        return folder / name

    run.arguments = arguments  # type: ignore[attr-defined]
    return run


def parsed(name: str) -> TrainNetwork:
    """A command with the class."""
    argv = ["--pretrained_model_name_or_path", "m", "--output_dir", "out", "--network_module", "networks.lora", "--resolution", "64,48"]
    return parse(TrainNetwork, [*argv, "--dataset_class", name])


def opened(name: str) -> CustomDataset:
    """The class as a run opens it."""
    return open_custom(parsed(name))


def asked(folder: Path) -> list[tuple[int, int]]:
    """(epoch, index) of each batch in the order of asking; then forgets them."""
    file = folder / "asked.txt"
    pairs = [tuple(map(int, pair.split(":"))) for pair in file.read_text(encoding="utf-8").split()]
    file.unlink()
    return pairs


def test_each_batch_is_trained_once_an_epoch_in_a_new_order(command, folder: Path, capsys) -> None:
    out = command("out", "--save_every_n_epochs", 1)
    assert kept(out) == ["cat-000001.safetensors", "cat.safetensors"]
    first_look, *trained = asked(folder)
    assert first_look == (1, 0)
    orders = [[index for epoch, index in trained if epoch == number] for number in (1, 2)]
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4]] * 2 and orders[0] != orders[1] != [0, 1, 2, 3, 4]
    output = capsys.readouterr().err
    message(output, "--dataset_class my_batches.Batches", "5 batches per epoch", "1 image, 64×48")
    assert "updates: 10 = 2 epochs" in output and "batches per second" in output
    moved = {name[:7] for name, tensor in load_file(out / "cat.safetensors").items() if name.endswith("lora_up.weight") and tensor.any()}
    assert moved == {"lora_te", "lora_un"}


def test_a_run_that_goes_on_inside_an_epoch_ends_with_the_same_bits(command, folder: Path) -> None:
    """Two of the second epoch's five batches are done by then; the class draws by chance, and comes in a loader worker the second time."""
    whole = command("whole", "--save_state", "--save_every_n_steps", 7)
    order = [index for epoch, index in asked(folder) if epoch == 2]
    again = command("again", "--resume", whole / "cat-step00000007-state", "--max_data_loader_n_workers", 1)
    assert asked(folder)[1:] == [(2, index) for index in order[2:]]
    assert tensors_equal(whole / "cat.safetensors", again / "cat.safetensors")
    assert not tensors_equal(whole / "cat.safetensors", whole / "cat-step00000007.safetensors")


def test_latents_and_weights_of_the_class_are_trained_and_the_files_tell_of_it(command, folder: Path, capsys) -> None:
    out = command("out", "--dataset_class", "my_batches.Latents", "--rehearsal", "on", "--max_train_epochs", 1)
    output = capsys.readouterr().err
    message(output, "my_batches.Latents", "latents of 1 image, 64×48")
    message(output, "not used", "extra")
    message(output, "rehearsal", "batch of 1 at 64×48")
    with safe_open(out / "cat.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["ss_dataset_class"] == "my_batches.Latents" and len(facts["ss_dataset_class_hash"]) == 64
    assert facts["ss_resolution"] == "(64, 48)" and facts["ss_num_batches_per_epoch"] == "5" and "ss_tag_frequency" not in facts
    manifest = json.loads((out / "cat.run.json").read_text(encoding="utf-8"))
    assert manifest["data"]["dataset_class"] == "my_batches.Latents" and manifest["data"]["batches"] == 5
    assert manifest["images_sha256"] is None


def test_accumulation_samples_and_a_fault_on_the_way(command, folder: Path, capsys) -> None:
    (folder / "prompts.txt").write_text("a cat --w 64 --h 64 --s 1\n", encoding="utf-8")
    more = ("--gradient_accumulation_steps", 2, "--sample_prompts", "prompts.txt", "--sample_every_n_epochs", 1, "--max_train_epochs", 1)
    out = command("out", *more, "--dataset_class", "my_batches.Latents")
    assert len(list((out / "sample").glob("*.png"))) == 1
    capsys.readouterr()
    command("bad", "--dataset_class", "my_batches.Third", code=2)
    refusal(capsys.readouterr().err, "DATA-022", "--dataset_class my_batches.Third[2]", "captions", "0 entries", "1 text")


def test_a_batch_with_which_nothing_finite_comes_out_is_left_out_where_that_is_asked_for(command, capsys) -> None:
    command("out", "--dataset_class", "my_batches.Wild", "--on_nan", "rollback")
    output = capsys.readouterr().err
    message(output, "my_batches.Wild[3] image 1: timestep")
    message(output, "excluded", "batch 3")


@pytest.mark.parametrize(("script", "more"), [(train_db, ["--no_token_padding"]), (fine_tune, [])], ids=["db", "fine_tune"])
def test_the_scripts_that_train_whole_models_take_it(command, script: Any, more: list[str]) -> None:
    out = command("out", *more, "--max_train_epochs", 1, "--save_model_as", "safetensors", script=script)
    assert kept(out) == ["cat.safetensors"]


@pytest.mark.parametrize("script", [train_textual_inversion, train_textual_inversion_XTI], ids=["ti", "xti"])
def test_a_new_word_is_learnt_from_captions_that_hold_it(command, folder: Path, script: Any, capsys) -> None:
    ids = ', "input_ids": torch.tensor([[49406] + [49407] * 76] * count)'
    write_class(folder, "words", "a photo of zorb", length=2, more=ids)
    word = ("--token_string", "zorb", "--init_word", "cat", "--save_model_as", "safetensors", "--max_train_epochs", 1)
    out = command("out", "--dataset_class", "words.Batches", *word, "--save_every_n_steps", 1, script=script)
    message(capsys.readouterr().err, "input_ids", "captions", "--token_string")
    assert not tensors_equal(out / "cat-step00000001.safetensors", out / "cat.safetensors"), "the second update moves the word too"
    with safe_open(out / "cat.safetensors", "pt") as file:
        assert file.keys()


def test_a_new_word_is_learnt_with_templates_whatever_the_captions_are(command, capsys) -> None:
    word = ("--token_string", "zorb", "--init_word", "cat", "--save_model_as", "safetensors", "--max_train_epochs", 1)
    command("out", *word, "--use_object_template", script=train_textual_inversion)
    assert "no caption" not in capsys.readouterr().err
    command("other", *word, "--debug_dataset", script=train_textual_inversion)
    message(capsys.readouterr().err, "--token_string zorb", "no caption")


FAULTS = [
    ("my_batchs.Batches", ("DATA-020", "my_batchs", "my_batches?")),
    ("my_batches.Batchs", ("PKG-004", "my_batches", "Batchs", "Batches?")),
    ("my_batches", ("DATA-020", "'my_batches'", "my_data.Pairs")),
    ("my_batches.Failing", ("DATA-021", "ValueError: there is no archive", "my_batches.py, line")),
    ("my_batches.Strange", ("DATA-020", "(tokenizer, max_token_length, resolution, debug_dataset)")),
    ("my_batches.Empty", ("DATA-022", "its length is 0")),
    ("my_batches.Endless", ("DATA-020", "__len__")),
    ("broken.Batches", ("DATA-021", "broken", "NameError: name 'nothing' is not defined")),
    ("halved.Batches", ("DATA-021", "halved", "SyntaxError", "line 1")),
    ("needy.Batches", ("PKG-001", "needy", "pip install no_such_package")),
    ("json.Batches", ("DATA-020", "json", "rename your json.py")),
]


@pytest.mark.parametrize(("named", "asked"), FAULTS, ids=[named for named, _ in FAULTS])
def test_a_class_that_is_not_there_or_fails_is_told_in_a_line(command, folder: Path, capsys, named: str, asked: tuple[str, ...]) -> None:
    for name, text in (("broken", "nothing\n"), ("halved", "class\n"), ("needy", "import no_such_package\n"), ("json", "")):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    out = command("out", "--dataset_class", named, code=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, (*asked, "--dataset_class", named))
    assert not out.exists()


def test_what_cannot_be_pickled_is_refused_where_workers_start_afresh_and_only_there(folder: Path) -> None:
    own = opened("my_batches.Handle")
    own.check_can_be_sent(0, "spawn"), own.check_can_be_sent(2, "fork")
    with refused("DATA-023", "my_batches.Handle", "__getitem__"):
        own.check_can_be_sent(2, "spawn")
    own.source.dataset.file.close()
    opened("my_batches.Batches").check_can_be_sent(2, "spawn")
    with refused("DATA-023", "my_batches.Handle", "5 and 4 batches"):
        own.check_agrees([5, 4])


def test_processes_share_out_the_batches_each_once_an_epoch(folder: Path) -> None:
    own = opened("my_batches.Batches")
    sampler = EpochSampler(own.filled(), 7, processes=2)
    shares = [(sampler.share(batch, process), process) for batch in sampler.epoch(0) for process in (0, 1)]
    trained = [request.record for share, _ in shares for request in share if request.weight]
    assert sorted(trained) == [0, 1, 2, 3, 4] and all(len(share) == 1 for share, _ in shares)
    weights = [share[0].weight for share, _ in shares]
    assert weights == [1, 1, 1, 1, 2, 0], "the mean over both processes is that of the batches that are there"


@pytest.mark.slow
def test_two_processes_end_where_one_ends(command, folder: Path) -> None:
    """One update of four batches, two in each process; gradients are averaged, so only rounding differs."""
    write_class(folder, "even", length=4)
    plain = ("--dataset_class", "even.Batches", "--optimizer_type", "SGD", "--learning_rate", "1", "--max_train_epochs", 1)
    one = command("one", *plain, "--gradient_accumulation_steps", 4)
    assert len(asked(folder)) == 5
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29641"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    argv = command.arguments("two", *plain, "--gradient_accumulation_steps", 2)
    done = subprocess.run([*launch, str(ROOT / "train_network.py"), *argv], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(asked(folder)) == sorted([(1, 0), (1, 0), *((1, index) for index in range(4))]), "two first looks, then each once"
    moved = max(float(tensor.abs().max()) for name, tensor in load_file(one / "cat.safetensors").items() if "lora_up" in name)
    assert 0 < largest_difference(one / "cat.safetensors", folder / "two" / "cat.safetensors") < 1e-3 * moved


@pytest.mark.slow
def test_workers_that_are_started_afresh_give_the_same_batches(folder: Path) -> None:
    own = opened("my_batches.Batches")
    data = own.dataset(7, ClipTokenizer(V1), 1.0, as_it_is, planned_custom(parsed("my_batches.Batches"), own).plan)
    plain = list(EpochLoader(data, EpochSampler(own.filled(), 7)).epoch(0))
    fresh = list(EpochLoader(data, EpochSampler(own.filled(), 7), workers=Workers(1, context="spawn")).epoch(0))
    assert all(torch.equal(one.images, other.images) for one, other in zip(plain, fresh, strict=True))


def as_it_is(caption: str, rng: object) -> str:
    return caption


def test_a_dry_run_asks_for_every_batch_and_lists_what_is_wrong(command, folder: Path, capsys) -> None:
    out = command("out", "--dry_run")
    output = capsys.readouterr().out
    assert "5 batches per epoch" in output and "BUCKETS" not in output and not out.exists()
    message(output, "the run would start")
    message(output, "imported for this report")
    assert asked(folder) == [(1, 0), *((1, index) for index in range(5))]
    command("out", "--dry_run", "--dataset_class", "my_batches.Grey")
    message(capsys.readouterr().out, "my_batches.Grey[0]", "images", "0.00 to 1.00", "-1", "grey")
    command("out", "--dry_run", "--dataset_class", "my_batches.Third", code=2)
    message(capsys.readouterr().out, "--dataset_class my_batches.Third[2]", "captions", "0 entries")


def test_debug_dataset_shows_the_batches_and_trains_nothing(command, folder: Path) -> None:
    out = command("out", "--debug_dataset")
    assert [path.name for path in out.iterdir()] == ["dataset.html"]
    page = (out / "dataset.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 7 and "a photo 3 1" in page and "my_batches.Batches[3] image 1" in page


def test_options_about_images_that_nobody_reads_are_refused_together(command, capsys) -> None:
    more = ("--dataset_config", "x.toml", "--train_batch_size", 2, "--cache_latents", "--flip_aug", "--caption_dropout_rate", 0.1)
    more += ("--validation_split", 0.1, "--masked_loss", "--cache_text_encoder_outputs", "on", "--prior_loss_weight", 0.5)
    command("out", *more, code=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "--dataset_class" in line and line.endswith("[SD-OPT-008]")]
    assert len(lines) == 9 and all("remove it" in line for line in lines)


def test_the_latents_tool_has_nothing_to_do_for_a_class(folder: Path, capsys) -> None:
    assert run_in_process(cache_latents.main, "--dataset_class", "my_batches.Batches") == 2
    refusal(capsys.readouterr().err, "OPT-008", "--dataset_class")


def test_the_example_of_the_page_trains(command, folder: Path, capsys) -> None:
    import numpy as np

    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (folder / "my_data.py").write_text(example, encoding="utf-8")
    np.save(folder / "pictures.npy", np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    (folder / "captions.json").write_text(json.dumps([f"a picture, {number}" for number in range(6)]), encoding="utf-8")
    out = command("out", "--dataset_class", "my_data.Packed", "--max_train_epochs", 1)
    assert kept(out) == ["cat.safetensors"]
    message(capsys.readouterr().err, "my_data.Packed", "2 batches per epoch", "4 images, 64×64")
