"""--dataset_class in whole runs on the tiny model: training, resuming, workers, processes, and the example of docs/dataset_class.md."""

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
import train_textual_inversion
import train_textual_inversion_XTI
from library.data.batching.sampler import EpochSampler
from library.data.loading.loader import EpochLoader, Workers
from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from library.training.planning.inputs import planned_custom
from tests.messages import message, refusal
from tests.scripts.dataset_class.classes import asked, opened, parsed, write_class
from tests.scripts.running import kept, largest_difference, tensors_equal

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "dataset_class.md").read_text(encoding="utf-8")


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


def test_the_example_of_the_page_trains(command, folder: Path, capsys) -> None:
    import numpy as np

    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (folder / "my_data.py").write_text(example, encoding="utf-8")
    np.save(folder / "pictures.npy", np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    (folder / "captions.json").write_text(json.dumps([f"a picture, {number}" for number in range(6)]), encoding="utf-8")
    out = command("out", "--dataset_class", "my_data.Packed", "--max_train_epochs", 1)
    assert kept(out) == ["cat.safetensors"]
    message(capsys.readouterr().err, "my_data.Packed", "2 batches per epoch", "4 images, 64×64")
