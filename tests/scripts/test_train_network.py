"""train_network.py as a user runs it, on a tiny model and photographs: its files, and what its result does and does not depend on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import train_network
from tests.scripts.running import kept, largest_difference, run_in_process, tensors_equal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(tiny_v1: Path, photos: Path, tmp_path: Path):
    """`command(name, *changes)` trains into tmp_path/<name> and returns that folder."""
    config = tmp_path / "data.toml"
    config.write_text(
        f"[general]\nresolution = 64\nenable_bucket = true\nmin_bucket_reso = 32\nmax_bucket_reso = 128\nbucket_reso_steps = 16\n"
        f"batch_size = 2\nshuffle_caption = true\nflip_aug = true\n\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{photos}'\n",
        encoding="utf-8",
    )

    def arguments(name: str, *changes: object) -> list[str]:
        fixed = ["--pretrained_model_name_or_path", tiny_v1, "--dataset_config", config, "--output_dir", tmp_path / name]
        more = ["--output_name", "cat", "--network_module", "networks.lora", "--network_dim", 2, "--max_train_steps", 4, "--seed", 7]
        return [str(item) for item in (*fixed, *more, "--learning_rate", "1e-3", "--cache_latents", *changes)]

    def run(name: str, *changes: object) -> Path:
        assert run_in_process(train_network.main, *arguments(name, *changes)) == 0
        return tmp_path / name

    run.arguments = arguments  # type: ignore[attr-defined]
    return run


def test_a_run_leaves_exactly_the_files_of_its_plan(command):
    folder = command("out", "--save_every_n_steps", 2, "--save_every_n_epochs", 1, "--max_train_epochs", 2)
    # 9 photographs in three buckets of 3 make 6 batches of 2: 12 updates
    steps = [f"cat-step{step:08d}.safetensors" for step in (2, 4, 6, 8, 10)]
    beside = ["cat.run.json", "events.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*steps, "cat-000001.safetensors", "cat.safetensors", *beside])


def test_every_trained_tensor_moves_and_the_file_names_are_the_ecosystems(command):
    trained = load_file(command("out") / "cat.safetensors")
    ups = {name: tensor for name, tensor in trained.items() if name.endswith("lora_up.weight")}
    assert any(name.startswith("lora_te_text_model_encoder_layers_0_self_attn_q_proj") for name in ups)
    assert any(name.startswith("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k") for name in ups)
    still = [name for name, tensor in ups.items() if not tensor.any()]
    assert not still, f"these started at 0 and were never trained: {still[:5]}"


def test_the_same_command_twice_gives_the_same_bits(command):
    torch.manual_seed(1)
    first = command("one")
    torch.manual_seed(2)  # whatever ran before in the process
    assert tensors_equal(first / "cat.safetensors", command("two") / "cat.safetensors")


def test_another_seed_gives_another_result(command):
    assert not tensors_equal(command("one") / "cat.safetensors", command("two", "--seed", 8) / "cat.safetensors")


def test_loader_workers_change_nothing(command):
    plain = [item for item in command.arguments("zero", "--max_data_loader_n_workers", 0) if item != "--cache_latents"]
    workers = [item for item in command.arguments("one", "--max_data_loader_n_workers", 2) if item != "--cache_latents"]
    assert run_in_process(train_network.main, *plain) == 0
    assert run_in_process(train_network.main, *workers) == 0
    folder = Path(plain[plain.index("--output_dir") + 1]).parent
    assert tensors_equal(folder / "zero" / "cat.safetensors", folder / "one" / "cat.safetensors")


def test_cached_latents_train_as_uncached_ones_do(command):
    """Only rounding differs, as the VAE sees images one by one or in pairs; SGD, since Adam makes large steps of tiny gradients."""
    plain = ("--optimizer_type", "SGD", "--learning_rate", "1")
    cached = command("cached", *plain)
    uncached = [item for item in command.arguments("uncached", "--max_data_loader_n_workers", 0, *plain) if item != "--cache_latents"]
    assert run_in_process(train_network.main, *uncached) == 0
    moved = max(float(tensor.abs().max()) for name, tensor in load_file(cached / "cat.safetensors").items() if "lora_up" in name)
    assert largest_difference(cached / "cat.safetensors", cached.parent / "uncached" / "cat.safetensors") < 1e-3 * moved


def test_an_epoch_in_accumulation_groups_leaves_one_file_an_update(command):
    folder = command("out", "--gradient_accumulation_steps", 2, "--max_train_epochs", 1, "--save_every_n_steps", 1)
    steps = [f"cat-step{step:08d}.safetensors" for step in (1, 2)]  # 6 batches of 2 in groups of 2: 3 updates
    assert kept(folder) == [*steps, "cat.safetensors"]


def test_an_accumulated_group_trains_like_one_large_batch(command, tmp_path):
    """9 images at one size: a group of 9 batches of 1 has the gradient of one batch of 9. SGD, so that rounding stays rounding."""
    config = tmp_path / "data.toml"
    settings = config.read_text(encoding="utf-8").replace("enable_bucket = true", "enable_bucket = false")
    plain = ("--max_train_epochs", 2, "--optimizer_type", "SGD", "--learning_rate", "1", "--max_grad_norm", 0)
    config.write_text(settings.replace("batch_size = 2", "batch_size = 9"), encoding="utf-8")
    large = load_file(command("large", *plain) / "cat.safetensors")
    config.write_text(settings.replace("batch_size = 2", "batch_size = 1"), encoding="utf-8")
    grouped = command("grouped", *plain, "--gradient_accumulation_steps", 9) / "cat.safetensors"
    moved = max(float(tensor.abs().max()) for name, tensor in large.items() if "lora_up" in name)
    assert moved > 0
    assert largest_difference(tmp_path / "large" / "cat.safetensors", grouped) < 1e-2 * moved


def test_gradient_checkpointing_changes_nothing_but_rounding(command):
    plain, saving = command("plain"), command("saving", "--gradient_checkpointing")
    assert largest_difference(plain / "cat.safetensors", saving / "cat.safetensors") < 1e-5


@pytest.mark.parametrize(("flag", "gone"), [("--network_train_unet_only", "lora_te_"), ("--network_train_text_encoder_only", "lora_unet_")])
def test_training_one_part_only_leaves_the_other_out_of_the_file(command, flag, gone):
    names = load_file(command("out", flag) / "cat.safetensors").keys()
    assert names and not any(name.startswith(gone) for name in names)


def test_samples_leave_the_training_as_it_was_and_bear_their_names(command, tmp_path):
    (tmp_path / "prompts.txt").write_text(
        "a (cat:1.3) --w 64 --h 64 --s 2 --d 5 --l 4\n# no prompt\na dog --w 64 --h 64 --s 2\n", encoding="utf-8"
    )
    quiet = command("quiet")
    drawn = command("drawn", "--sample_prompts", tmp_path / "prompts.txt", "--sample_every_n_steps", 2, "--sample_sampler", "euler_a")
    assert tensors_equal(quiet / "cat.safetensors", drawn / "cat.safetensors")
    names = sorted(path.name for path in (drawn / "sample").iterdir() if path.name != "index.html")
    assert len(names) == 4
    assert [name.split("_")[1:3] for name in names] == [["000002", "00"], ["000002", "01"], ["000004", "00"], ["000004", "01"]]
    assert names[0].endswith("_5.png")


def test_the_file_tells_how_it_was_trained(command):
    folder = command("out", "--training_comment", "for the test", "--network_alpha", 1, "--max_train_epochs", 1, "--save_precision", "fp16")
    with safe_open(folder / "cat.safetensors", "pt") as file:
        told = file.metadata()
    assert told["ss_network_module"] == "networks.lora"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("2", "1.0")
    assert told["ss_training_comment"] == "for the test"
    assert (told["ss_steps"], told["ss_epoch"], told["ss_num_epochs"], told["ss_num_batches_per_epoch"]) == ("6", "1", "1", "6")
    assert told["ss_base_model_version"] == "sd_v1"
    assert told["ss_resolution"] == "(64, 64)"
    assert json.loads(told["ss_datasets"])[0]["num_train_images"] == 9
    assert json.loads(told["ss_tag_frequency"])["photos0"]["flag"] == 1
    assert len(told["ss_sd_model_hash"]) == 8 and len(told["ss_new_sd_model_hash"]) == 64
    assert len(told["sshs_model_hash"]) == 64 and len(told["sshs_legacy_hash"]) == 8


def test_no_metadata_leaves_what_makes_the_file_usable(command):
    with safe_open(command("out", "--no_metadata", "--training_comment", "secret") / "cat.safetensors", "pt") as file:
        told = file.metadata()
    assert "ss_network_module" in told and not any("secret" in value for value in told.values())
    assert "ss_tag_frequency" not in told and "ss_datasets" not in told


def test_training_goes_on_from_network_weights(command):
    first = command("first")
    again = command("again", "--network_weights", first / "cat.safetensors", "--dim_from_weights", "--learning_rate", "1e-12")
    assert largest_difference(first / "cat.safetensors", again / "cat.safetensors") < 1e-6


def test_a_log_for_tensorboard_is_written(command, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command("out", "--logging_dir", tmp_path / "logs", "--log_prefix", "night_", "--lr_scheduler", "linear", "--unet_lr", "8e-4")
    (run,) = (tmp_path / "logs").iterdir()
    assert run.name.startswith("night_")
    events = EventAccumulator(str(run / "network_train"))
    events.Reload()
    assert {"loss/current", "loss/average", "lr/unet", "lr/textencoder"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss/current")] == [1, 2, 3, 4]
    rates = [event.value for event in events.Scalars("lr/unet")]  # of the update itself, not of the next one
    assert rates == pytest.approx([8e-4, 6e-4, 4e-4, 2e-4])


def test_a_loss_that_is_not_finite_names_the_images_and_saves_nothing(command, capsys):
    arguments = command.arguments(
        "out", "--learning_rate", "1000", "--max_grad_norm", "0", "--save_every_n_steps", "1", "--max_train_steps", "9"
    )
    assert run_in_process(train_network.main, *arguments) == 2
    told = capsys.readouterr().err
    assert "the loss is" in told and ".jpg" in told and "Traceback" not in told
    for path in Path(arguments[arguments.index("--output_dir") + 1]).glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values()), path


SPY = """
import json, os, sys
import torch, train_network
from library.console import run_script
from library.methods.network import NetworkMethod
from library.training.step.task import DiffusionTask

rank, folder, seen = os.environ["RANK"], os.environ["SPY_FOLDER"], []
forward, after_step = DiffusionTask.forward, NetworkMethod.after_step

def spied_forward(self, batch, step):
    seen.append([path for path, weight in zip(batch.paths, batch.loss_weights.tolist()) if weight])
    return forward(self, batch, step)

def spied_after_step(self, step):
    torch.save(self.network.module.state_dict(), f"{folder}/rank{rank}.pt")
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(seen, file)
    return after_step(self, step)

DiffusionTask.forward, NetworkMethod.after_step = spied_forward, spied_after_step
if __name__ == "__main__":
    sys.exit(run_script(train_network.main))
"""


def test_two_processes_end_where_one_ends(command, tmp_path):
    """2 processes × batch 1 see the images that 1 process × batch 2 sees; gradients are averaged, so only rounding differs."""
    # plain SGD, since Adam makes large steps of tiny gradients; the rate falls once an update, not once a process
    # float8, since not every process group can send it, and frozen weights need not be sent
    plain = ("--max_train_epochs", 1, "--optimizer_type", "SGD", "--learning_rate", "1", "--lr_scheduler", "linear", "--fp8_base")
    one = command("one", *plain)
    config = tmp_path / "data.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("batch_size = 2", "batch_size = 1"), encoding="utf-8")
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SPY_FOLDER": str(tmp_path)}
    arguments = [*launch, str(tmp_path / "spy.py"), *command.arguments("two", *plain)]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "cat.safetensors").touch()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (done.stdout + done.stderr).count("already exists and will be overwritten") == 1  # only the main process says it

    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    images = [path for share in (*seen[0], *seen[1]) for path in share]
    assert len(images) == len(set(images)) == 9  # each photograph once, on one process only
    moved = max(float(tensor.abs().max()) for name, tensor in load_file(one / "cat.safetensors").items() if "lora_up" in name)
    assert largest_difference(one / "cat.safetensors", tmp_path / "two" / "cat.safetensors") < 1e-3 * moved


def test_dropouts_act_in_training_but_not_in_samples(command, tmp_path, monkeypatch):
    """Two samples of one seed in one run, one epoch apart with learning rate 0 in effect, are the same picture."""
    (tmp_path / "prompts.txt").write_text("a cat --w 64 --h 64 --s 2 --d 5\n", encoding="utf-8")
    first = command("first", "--save_precision", "float")
    drawn = command(
        *("drawn", "--network_weights", first / "cat.safetensors", "--dim_from_weights", "--learning_rate", "1e-30"),
        *("--network_dropout", "0.5", "--network_args", "module_dropout=0.5"),
        *("--sample_prompts", tmp_path / "prompts.txt", "--sample_every_n_steps", 1),
    )
    images = list((drawn / "sample").glob("*.png"))
    assert len(images) == 4 and len({_pixels(path) for path in images}) == 1


def _pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()
