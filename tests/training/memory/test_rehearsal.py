"""Memory in whole runs: the rehearsal changes nothing, running out is reported with a remedy, 16-bit and 8-bit weights train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fine_tune
import train_db
import train_network
import train_textual_inversion
from library.training.memory import rehearsal
from library.training.memory.rehearsal import explained, is_out_of_memory
from library.training.step.task import DiffusionTask
from tests.messages import message, refusal, refusals, refused
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start


@pytest.fixture
def lora(tiny_v1: Path, photos: Path, tmp_path: Path):
    """`lora(folder, **options)` trains a network with dropout; gives the exit code."""
    config = dataset(tmp_path / "data.toml", photos, resolution=64)

    def run(name: str, **changes: object) -> int:
        common: dict[str, object] = {"pretrained_model_name_or_path": tiny_v1, "dataset_config": config, "output_dir": tmp_path / name}
        common |= {"output_name": "cat", "network_module": "networks.lora", "network_dim": 2, "network_dropout": 0.3, "seed": 7}
        common |= {"max_train_steps": 3, "learning_rate": 1e-2, "cache_latents": True, "save_precision": "float"}
        return start(train_network.main, **(common | changes))

    return run


def test_a_rehearsal_tries_the_largest_batch_and_changes_nothing(lora, tmp_path: Path, monkeypatch) -> None:
    seen: list[tuple[int, ...]] = []
    real = DiffusionTask.forward

    def forward(self, batch, step):
        seen.append(tuple(batch.latents.shape))
        return real(self, batch, step)

    monkeypatch.setattr(DiffusionTask, "forward", forward)
    assert lora("plain") == 0 and len(seen) == 3
    assert lora("rehearsed", rehearsal="on") == 0 and len(seen) == 7
    assert seen[3] == (2, 4, 8, 8)
    assert tensors_equal(tmp_path / "plain" / "cat.safetensors", tmp_path / "rehearsed" / "cat.safetensors")


OUT_OF_MEMORY = (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_running_out_of_memory_ends_with_what_to_change_before_anything_is_written(error, lora, tmp_path, monkeypatch, capsys) -> None:
    def forward(self, batch, step):
        raise error

    monkeypatch.setattr(DiffusionTask, "forward", forward)
    monkeypatch.setattr(rehearsal, "room_on", lambda device: 0.7 * 2**30)
    assert lora("out", rehearsal="on") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, ("TRAIN-005", "rehearsal", "--mixed_precision bf16"))
    assert re.search(r"about 6\d\d MiB", lines[0])
    assert not (tmp_path / "out").exists()


def test_other_errors_pass_and_only_memorys_are_explained() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained(lambda: "do this", "here"):
        raise RuntimeError("shapes do not fit")
    with refused("TRAIN-005", "out of memory here: do this"), explained(lambda: "do this", "here"):
        raise MemoryError
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_estimate_is_told_before_the_first_step(lora, capsys) -> None:
    assert lora("out", max_train_steps=1) == 0
    line = message(capsys.readouterr().err, "memory: about", "batch of 2 at 64×64")
    assert re.search(r"about \d{3} MiB", line)


def trained_dtypes(file: Path) -> set[torch.dtype]:
    return {tensor.dtype for name, tensor in load_file(file).items() if not name.endswith("alpha")}


def test_full_bf16_keeps_what_is_trained_in_16_bits_and_resumes_bit_for_bit(lora, tmp_path: Path) -> None:
    half = {"mixed_precision": "bf16", "full_bf16": True, "save_precision": None, "max_train_steps": 3}
    assert lora("whole", **half, save_state=True, save_every_n_steps=2) == 0
    assert trained_dtypes(tmp_path / "whole" / "cat.safetensors") == {torch.bfloat16}
    assert lora("rest", **half, resume=tmp_path / "whole" / "cat-step00000002-state") == 0
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "rest" / "cat.safetensors")


def test_a_whole_model_and_a_word_train_in_full_bf16(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    common = {"pretrained_model_name_or_path": tiny_v1, "dataset_config": dataset(tmp_path / "data.toml", photos, resolution=64)}
    common |= {"max_train_steps": 2, "mixed_precision": "bf16", "full_bf16": True, "cache_latents": True, "seed": 1}
    assert start(train_db.main, **common, output_dir=tmp_path / "db", output_name="x", learning_rate=1e-3) == 0
    before, after = load_file(tiny_v1), load_file(tmp_path / "db" / "x.safetensors")
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before if ".attn2.to_k" in name)
    word = {"token_string": "shs", "init_word": "cat", "use_object_template": True}
    word |= {"output_dir": tmp_path / "ti", "output_name": "x", "learning_rate": 1e-2}
    assert start(train_textual_inversion.main, **common, **word, fp8_base=True, rehearsal="on") == 0


def test_float8_weights_train_and_give_nearly_the_same_network(lora, tmp_path: Path) -> None:
    assert lora("plain", optimizer_type="SGD", learning_rate=1) == 0
    assert lora("stored", optimizer_type="SGD", learning_rate=1, fp8_base=True) == 0
    plain, stored = (load_file(tmp_path / name / "cat.safetensors") for name in ("plain", "stored"))
    ups = [name for name in plain if "lora_up" in name]
    moved = torch.cat([plain[name].flatten() for name in ups])
    error = (torch.cat([stored[name].flatten() for name in ups]) - moved).norm() / moved.norm()
    assert 0 < error < 0.3


def test_the_vaes_options_reach_the_vae(lora, monkeypatch) -> None:
    from library.training import model_setup

    loaded = []
    real = model_setup.load
    monkeypatch.setattr(model_setup, "load", lambda *arguments, **named: loaded.append(real(*arguments, **named)) or loaded[-1])
    assert lora("out", vae_slicing=True, vae_tiling=True, no_half_vae=True, mixed_precision="bf16", max_train_steps=1) == 0
    (model,) = loaded
    assert model.vae.use_slicing and model.vae.use_tiling and not model.half_vae
    assert (model.vae.dtype, model.unet.dtype) == (torch.float32, torch.bfloat16)


@torch.no_grad()
def test_slices_change_nothing_a_whole_vae_ignores_autocast_and_tiles_change_little(tiny_v1: Path) -> None:
    from library.model.load import load

    model = load(tiny_v1)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = model.moments(images)
    model.vae.enable_slicing()
    torch.testing.assert_close(model.moments(images), plain, rtol=1e-4, atol=1e-4)
    model.vae.disable_slicing()
    with torch.autocast("cpu", torch.bfloat16):
        half = model.moments(images)
        model.half_vae = False
        assert torch.equal(model.moments(images), plain) and not torch.equal(half, plain)
    smooth = torch.nn.functional.interpolate(images[:1, :, ::9, ::9], (576, 64))
    whole = model.moments(smooth)[:, :4]
    model.vae.enable_tiling()
    tiled = model.moments(smooth)[:, :4]
    assert 0 < (tiled - whole).norm() / whole.norm() < 0.35


def test_every_weight_goes_straight_to_the_device(tiny_v1: Path) -> None:
    """--lowram, shown with torch's device without memory: only it has weights when the model is loaded."""
    from library.model.load import load

    model = load(tiny_v1, device="meta", vae_dtype=torch.float32, dtype=torch.float16)
    for part, dtype in ((model.unet, torch.float16), (model.text_encoder, torch.float16), (model.vae, torch.float32)):
        assert {(p.device.type, p.dtype) for p in [*part.parameters()]} == {("meta", dtype)}
        assert all(buffer.device.type == "meta" for buffer in part.buffers())


@pytest.mark.parametrize(
    ("script", "options", "asked"),
    [
        (train_network, {"full_bf16": True}, ("OPT-009", "--full_bf16:", "--mixed_precision bf16", "it is no")),
        (train_network, {"full_bf16": True, "full_fp16": True}, ("OPT-008", "--full_bf16:", "--full_fp16")),
        (train_network, {"full_fp16": True, "mixed_precision": "fp16"}, ("OPT-018", "--mixed_precision fp16", "CPU")),
        (train_network, {"fp8_base": True, "network_module": "lycoris.kohya"}, ("OPT-008", "--fp8_base:", "lycoris.kohya")),
        (train_db, {"fp8_base": True}, ("OPT-008", "--fp8_base:", "8 bits")),
        (fine_tune, {"fp8_base": True}, ("OPT-008", "--fp8_base:", "8 bits")),
    ],
)
def test_what_cannot_be_is_refused(script, options, asked, tiny_v1: Path, photos: Path, tmp_path: Path, capsys) -> None:
    common = {"pretrained_model_name_or_path": tiny_v1, "dataset_config": dataset(tmp_path / "data.toml", photos)}
    if script is train_network:
        common |= {"network_module": "networks.lora"}
    assert start(script.main, **(common | {"output_dir": tmp_path / "out"} | options)) == 2
    refusal(capsys.readouterr().err, *asked)
