"""The caches of latents and texts in whole runs: the same weights with and without, stopped and resumed, with images that break."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train_network
from library.data.pixels import images as pixels
from library.data.pixels.latent_files import read_binding
from library.training.caches import text_cache
from tests.data.material import photo
from tests.messages import message, refusal
from tests.scripts.running import run_in_process, tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.test_resume import stop_after
from tests.small_models import write_checkpoint
from tools import cache_latents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six captioned images of one size and a dataset config."""
    for number in range(6):
        photo(tmp_path / "pictures" / f"{number}.png", (64, 64), seed=number)
        (tmp_path / "pictures" / f"{number}.caption").write_text(f"thing {number % 2}", encoding="utf-8")
    dataset(tmp_path / "data.toml", tmp_path / "pictures", subset="flip_aug = true\ncaption_dropout_rate = 0.3")
    return tmp_path


def options(folder: Path, model: Path, name: str, **changes: object) -> dict[str, object]:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": folder / "data.toml",
        "output_dir": folder / name,
        "output_name": "it",
        "network_module": "networks.lora",
        "network_dim": 2,
        "network_train_unet_only": True,
        "max_train_steps": 5,
        "learning_rate": 1e-2,
        "max_data_loader_n_workers": 0,
        "seed": 7,
        "save_precision": "float",
    }
    return {**common, **changes}


def train(folder: Path, model: Path, name: str, **changes: object) -> Path:
    assert start(train_network.main, **options(folder, model, name, **changes)) == 0
    return folder / name / "it.safetensors"


def test_latents_on_disk_train_as_those_in_memory_and_serve_the_next_run_and_one_that_is_resumed(
    folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture
) -> None:
    memory = train(folder, tiny_v1, "memory", cache_latents=True)
    first = train(folder, tiny_v1, "first", cache_latents_to_disk=True)
    assert len(list((folder / "pictures").glob("*.64x64.npz"))) == 6
    capsys.readouterr()
    parts = options(folder, tiny_v1, "parts", cache_latents_to_disk=True, save_state=True)
    assert stop_after(2, train_network.main, **parts) == 130
    message(capsys.readouterr().err, "latents: 6 of 6", "on disk")
    parts["max_data_loader_n_workers"] = 1
    assert start(train_network.main, **parts, resume=folder / "parts" / "it-step00000002-state") == 0
    assert tensors_equal(memory, first) and tensors_equal(memory, folder / "parts" / "it.safetensors")


def test_the_tool_fills_the_cache_that_the_run_finds_and_empties_it(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    options_of_the_tool = ("--pretrained_model_name_or_path", tiny_v1, "--dataset_config", folder / "data.toml", "--vae_batch_size", 4)
    assert run_in_process(cache_latents.main, *options_of_the_tool) == 0
    message(capsys.readouterr().err, "latents of 6 images", "ready")
    filled = train(folder, tiny_v1, "out", cache_latents_to_disk=True, max_train_steps=1, vae_batch_size=4)
    message(capsys.readouterr().err, "latents: 6 of 6", "on disk")
    assert filled.is_file()
    assert run_in_process(cache_latents.main, *options_of_the_tool, "--remove") == 0
    message(capsys.readouterr().err, "latents of 6 images", "deleted")
    assert not list((folder / "pictures").glob("*.npz"))
    assert run_in_process(cache_latents.main, "--pretrained_model_name_or_path", tiny_v1) == 2


def test_the_tool_does_all_but_bad_images_and_lists_them(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    pictures = folder / "pictures"
    (pictures / "0.png").write_bytes(b"no image")
    spoiled = bytearray((pictures / "2.png").read_bytes())  # whole, according to its header
    spoiled[len(spoiled) // 2] ^= 0xFF
    (pictures / "2.png").write_bytes(spoiled)
    for more, code in ((), 1), (("--skip_bad_images",), 0):
        capsys.readouterr()
        argv = ["--dataset_config", folder / "data.toml", "--pretrained_model_name_or_path", tiny_v1]
        assert run_in_process(cache_latents.main, *argv, *more) == code
        output = capsys.readouterr().err
        for name in ("0.png", "2.png"):
            line = message(output, f"image {pictures / name}:", "remove or replace it")
            assert line.startswith("warning: " if more else "error: ")
        message(output, "latents of 4 images", "--cache_latents_to_disk")
        assert ("[SD-TOOL-001]" in output) == (code == 1)
        assert len(list(pictures.glob("*.npz"))) == 4


def test_the_tools_vae_and_precision_are_those_that_the_latents_are_bound_to(folder: Path, tiny_v1: Path) -> None:
    def bound_to(*flags: object) -> tuple[str, str]:
        assert run_in_process(cache_latents.main, "--dataset_config", folder / "data.toml", *flags) == 0
        binding = read_binding(folder / "pictures" / "0.png.64x64.npz")
        return binding.vae, binding.precision

    model = ("--pretrained_model_name_or_path", tiny_v1)
    vae, precision = bound_to(*model)
    assert precision == "float32" and bound_to(*model, "--mixed_precision", "bf16") == (vae, "bfloat16")
    another = write_checkpoint(folder / "another.safetensors", seed=1)
    other, _ = bound_to(*model, "--vae", another)
    assert other != vae and bound_to("--pretrained_model_name_or_path", another) == (other, "float32")


def test_the_mean_alone_trains_to_other_weights(folder: Path, tiny_v1: Path) -> None:
    one, two = (train(folder, tiny_v1, kind, cache_latents=True, cache_latents_kind=kind) for kind in ("distribution", "mean"))
    assert not tensors_equal(one, two)


def test_texts_that_are_kept_train_the_same_weights_and_each_is_read_once(
    folder: Path, tiny_v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = text_cache._encode
    monkeypatch.setattr(text_cache, "_encode", lambda *arguments: read.append(1) or real(*arguments))
    cached = train(folder, tiny_v1, "auto", cache_latents=True, max_train_steps=9)
    assert len(read) == 3  # two captions, and the empty one
    fresh = train(folder, tiny_v1, "off", cache_latents=True, max_train_steps=9, cache_text_encoder_outputs="off")
    assert len(read) > 9 and tensors_equal(cached, fresh)


def test_a_text_encoder_that_is_trained_cannot_be_kept(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    changes = {"network_train_unet_only": False, "cache_text_encoder_outputs": "on"}
    assert start(train_network.main, **options(folder, tiny_v1, "out", **changes)) == 2
    refusal(capsys.readouterr().err, "OPT-008", "--cache_text_encoder_outputs on")


@pytest.mark.parametrize("cached", [False, True])
def test_an_image_that_breaks_gives_way_to_another_and_is_told_once_and_counted(
    folder: Path, tiny_v1: Path, cached: bool, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken where no header shows it: the run begins, and meets it while caching or while training."""
    spoiled = folder / "pictures" / "2.png"
    data = bytearray(spoiled.read_bytes())
    data[len(data) // 2] ^= 0xFF
    spoiled.write_bytes(data)
    first = train(folder, tiny_v1, "first", cache_latents=cached, max_train_steps=9)
    output = capsys.readouterr().err
    message(output, "2.png: cannot be read", "another image of its size")
    assert output.count("2.png: cannot be read") == 1
    message(output, "1 file", "others of the same size")
    assert tensors_equal(first, train(folder, tiny_v1, "second", cache_latents=cached, max_train_steps=9, max_data_loader_n_workers=1))


def test_bad_images_stop_the_run_or_are_left_out(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "pictures" / "2.png").write_bytes(b"no image")
    assert start(train_network.main, **options(folder, tiny_v1, "out")) == 2
    assert "2.png" in capsys.readouterr().err
    train(folder, tiny_v1, "out", skip_bad_images=True, max_train_steps=1)
    output = capsys.readouterr().err
    assert "skipped: image" in output and "2.png" in output and "5 images" in output


def test_when_nothing_can_be_read_any_more_the_run_ends_in_one_line(
    folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, cover: object = None) -> None:
        raise OSError("Transport endpoint is not connected")

    monkeypatch.setattr(pixels, "read_rgb", gone)
    assert start(train_network.main, **options(folder, tiny_v1, "out")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusal([line], "DATA-001", "Transport endpoint is not connected", "no other image of its size")


@pytest.mark.slow
def test_two_processes_share_the_caching_and_train_what_they_train_without_it(folder: Path, tiny_v1: Path) -> None:
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    outputs = {}
    for name, cache in (("disk", "--cache_latents_to_disk"), ("again", "--cache_latents_to_disk"), ("memory", "--cache_latents")):
        run_options = options(folder, tiny_v1, name)
        argv = [str(part) for key, value in run_options.items() for part in ([f"--{key}"] if value is True else [f"--{key}", value])]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]
        done = subprocess.run(
            [*launch, str(ROOT / "train_network.py"), *argv, cache], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]
        outputs[name] = done.stderr
    assert "6/6" in outputs["disk"]  # three images, and their mirrors, each
    message(outputs["again"], "latents: 6 of 6", "on disk")
    assert len(list((folder / "pictures").glob("*.npz"))) == 6
    for name in ("disk", "again"):
        assert tensors_equal(folder / name / "it.safetensors", folder / "memory" / "it.safetensors")
