"""Several processes that meet through gloo, as `accelerate launch` starts them on one machine and on two, end where one process ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import train_db
import train_network
from tests.scripts.running import largest_difference
from tests.scripts.starting import start

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
SPY = """
import json, os, sys
from datetime import timedelta
import torch, {script}
from library.console import run_script

wrap, begin = torch.nn.parallel.DistributedDataParallel.__init__, torch.distributed.init_process_group
seen = {{}}

def spied_wrap(self, module, *args, **given):
    seen.update({{name: given.get(name) for name in ("gradient_as_bucket_view", "static_graph", "find_unused_parameters")}})
    wrap(self, module, *args, **given)
    with open(os.environ["SPY_FOLDER"] + "/rank" + os.environ["RANK"] + ".json", "w") as file:
        json.dump(seen, file)

def spied_begin(*args, **given):
    seen["minutes"] = given["timeout"] / timedelta(minutes=1) if given.get("timeout") else None
    seen["backend"] = given.get("backend")
    return begin(*args, **given)

torch.nn.parallel.DistributedDataParallel.__init__ = spied_wrap
torch.distributed.init_process_group = spied_begin
if __name__ == "__main__":
    sys.exit(run_script({script}.main))
"""


def data(folder: Path, photos: Path, batch_size: int) -> Path:
    """9 photographs in three buckets of 3: in global batches of 4 every one is short, in those of 2 each second one."""
    path = folder / f"data{batch_size}.toml"
    buckets = "enable_bucket = true\nmin_bucket_reso = 32\nmax_bucket_reso = 128\nbucket_reso_steps = 16\n"
    subset = f"[[datasets.subsets]]\nimage_dir = '{photos}'\nflip_aug = true\n"
    path.write_text(f"[[datasets]]\nresolution = 64\nbatch_size = {batch_size}\n{buckets}{subset}", encoding="utf-8")
    return path


def common(model: Path) -> dict[str, object]:
    """SGD, since Adam makes large steps of tiny gradients."""
    return {
        "pretrained_model_name_or_path": model,
        "output_name": "cat",
        "optimizer_type": "SGD",
        "max_train_epochs": 2,
        "seed": 7,
        "max_data_loader_n_workers": 0,
        "cache_latents": True,
        "save_precision": "float",
    }


def launched(script: str, options: dict[str, object], folder: Path, *launches: list[str]) -> list[dict[str, object]]:
    """Start the script once for each of `launches`, all at a time; what each process has told DDP."""
    spy = folder / "spy.py"
    spy.write_text(SPY.format(script=script), encoding="utf-8")
    argv = [str(spy)]
    for name, value in options.items():
        argv += [f"--{name}", *([] if value is True else [str(value)])]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "SPY_FOLDER": str(folder)}
    running = []
    for number, launch in enumerate(launches):
        with (folder / f"launch{number}.txt").open("w", encoding="utf-8") as file:
            running.append(subprocess.Popen([*LAUNCH, *launch, *argv], env=environment, stdout=file, stderr=subprocess.STDOUT))
    codes = [process.wait(timeout=900) for process in running]
    assert codes == [0] * len(launches), "\n".join(file.read_text(encoding="utf-8")[-3000:] for file in folder.glob("launch*.txt"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("rank*.json"))]


def ledger(folder: Path) -> list[dict[str, Any]]:
    """What the run knows of each image, the hardest first."""
    return [json.loads(line) for line in (folder / "cat.images.jsonl").read_text(encoding="utf-8").splitlines()]


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def moved(one: Path, key: str) -> float:
    return max(float(tensor.abs().max()) for name, tensor in load_file(one).items() if key in name)


@pytest.mark.slow
def test_two_machines_end_where_one_process_ends(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    """One process on each, all of DDP's options on; of a global batch of 4 images 3 are there, so the shares are 2 and 1."""
    given = common(tiny_v1) | {"network_module": "networks.lora", "network_dim": 2, "learning_rate": 1.0, "image_ledger": True}
    alone = {**given, "dataset_config": data(tmp_path, photos, 4), "output_dir": tmp_path / "one"}
    assert start(train_network.main, **alone) == 0
    parallel = {"ddp_timeout": 5, "ddp_gradient_as_bucket_view": True, "ddp_static_graph": True}
    given |= {"dataset_config": data(tmp_path, photos, 2), "output_dir": tmp_path / "two", **parallel}
    meeting = ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    seen = launched("train_network", given, tmp_path, *([*meeting, "--machine_rank", str(rank)] for rank in (0, 1)))
    assert len(seen) == 2
    for told in seen:
        assert (told["minutes"], told["backend"]) == (5, "gloo")
        assert told["gradient_as_bucket_view"] is True and told["static_graph"] is True
        assert not told["find_unused_parameters"]  # every weight of a LoRA has a gradient in every update
    one, two = (tmp_path / name / "cat.safetensors" for name in ("one", "two"))
    assert largest_difference(one, two) < 1e-3 * moved(one, "lora_up")
    for line, other in zip(ledger(one.parent), ledger(two.parent), strict=True):
        counts = ("image", "times_seen", "sizes", "captions", "hardest")
        assert [line[name] for name in counts] == [other[name] for name in counts] and line["times_seen"] == 2
        assert other["hardness"]["value"] == pytest.approx(line["hardness"]["value"], rel=1e-2)


@pytest.mark.slow
def test_four_processes_train_a_whole_model_as_one_does_while_the_text_encoder_stops(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    """Batches of 3 for 4 processes: one computes an image that does not count. What has stopped has no gradient any more."""
    given = common(tiny_v1) | {"learning_rate": 3e-2, "stop_text_encoder_training": 3, "save_model_as": "safetensors", "clip_skip": 2}
    alone = {**given, "dataset_config": data(tmp_path, photos, 4), "output_dir": tmp_path / "one"}
    assert start(train_db.main, **alone) == 0
    given |= {"dataset_config": data(tmp_path, photos, 1), "output_dir": tmp_path / "four"}
    seen = launched("train_db", given, tmp_path, ["--num_processes", "4", "--main_process_port", "0"])
    assert [told["find_unused_parameters"] for told in seen] == [True] * 4
    one, four = (tmp_path / name / "cat.safetensors" for name in ("one", "four"))
    assert largest_difference(one, tiny_v1) > 1e-3
    assert largest_difference(one, four) < 5e-3 * largest_difference(one, tiny_v1)


@pytest.mark.slow
def test_two_processes_train_words_beside_a_network_as_one_does_while_the_words_stop(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    """The word is in all captions; after two updates it has no gradient any more."""
    words = {"token_string": "<zorb>", "init_word": "cat", "embedding_lr": 3.0, "stop_embedding_training": 2}
    given = common(tiny_v1) | {"network_module": "networks.lora", "network_dim": 2, "learning_rate": 1.0, **words}
    alone = {**given, "dataset_config": called(data(tmp_path, photos, 4)), "output_dir": tmp_path / "one"}
    assert start(train_network.main, **alone) == 0
    given |= {"dataset_config": called(data(tmp_path, photos, 2)), "output_dir": tmp_path / "two"}
    seen = launched("train_network", given, tmp_path, ["--num_processes", "2", "--main_process_port", "0"])
    assert [told["find_unused_parameters"] for told in seen] == [True] * 2
    for name, key in (("cat", "lora_up"), ("cat-zorb", "emb_params")):
        one, two = (tmp_path / folder / f"{name}.safetensors" for folder in ("one", "two"))
        assert largest_difference(one, two) < 2e-3 * moved(one, key), name


def called(config: Path) -> Path:
    """The same data set, every picture called by the new word."""
    text = config.read_text(encoding="utf-8")
    config.write_text(text + "class_tokens = '<zorb>'\ncaption_extension = '.none'\n", encoding="utf-8")
    return config
