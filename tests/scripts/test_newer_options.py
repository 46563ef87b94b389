"""Options that newer commands bring, in whole runs of train_network.py: LoRA+, network_multiplier, words and images in the file, logs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import train_network
from library.lora.network import LoRANetwork
from library.training.logs.event_log import read_events
from tests.messages import refusal
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start

Train = Callable[..., Path]


@pytest.fixture
def train(tiny_v1: Path, photos: Path, tmp_path: Path) -> Train:
    """`train(name, subset, **options)` trains for 2 updates into tmp_path/<name> and returns that folder."""

    def run(name: str, dataset_keys: str = "", exit_code: int = 0, **options: object) -> Path:
        config = dataset(tmp_path / f"{name}.toml", photos)
        config.write_text(config.read_text(encoding="utf-8").replace("[[datasets]]", f"[[datasets]]\n{dataset_keys}"), encoding="utf-8")
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": config,
            "output_dir": tmp_path / name,
            "network_module": "networks.lora",
            "network_dim": 2,
            "max_train_steps": 2,
            "learning_rate": 1e-2,
            "cache_latents": True,
            "max_data_loader_n_workers": 0,
            "seed": 7,
            "save_precision": "float",
        }
        assert start(train_network.main, **{**common, **options}) == exit_code
        return tmp_path / name

    return run


def rates(folder: Path) -> dict[str, float]:
    last = [event for event in read_events(folder / "events.jsonl") if event["event"] == "update"][-1]
    return {name.removeprefix("lr/"): value for name, value in last.items() if name.startswith("lr/")}


def test_a_lora_plus_ratio_of_1_is_a_plain_lora_bit_for_bit_and_another_has_groups_of_its_own(train: Train) -> None:
    plain = train("plain")
    one = train("one", network_args=["loraplus_lr_ratio=1"])
    assert tensors_equal(plain / "last.safetensors", one / "last.safetensors")
    plus = train("plus", network_args=["loraplus_unet_lr_ratio=16"], text_encoder_lr=1e-3)
    assert rates(plain) == pytest.approx({"textencoder": 1e-2, "unet": 1e-2})
    assert rates(plus) == pytest.approx({"textencoder": 1e-3, "unet": 1e-2, "unet_plus": 0.16})
    assert not tensors_equal(plain / "last.safetensors", plus / "last.safetensors")


@pytest.mark.parametrize("optimizer", ["AdamW", "Prodigy"])
def test_a_lora_plus_run_in_two_parts_ends_as_one_in_one_go(train: Train, optimizer: str) -> None:
    if optimizer == "Prodigy":
        pytest.importorskip("prodigyopt")
    options = {"network_args": ["loraplus_lr_ratio=4"], "optimizer_type": optimizer, "learning_rate": 1 if optimizer == "Prodigy" else 1e-2}
    whole = train("whole", **options)
    parts = train("parts", **options, max_train_steps=1, save_state=True)
    train("parts", **options, resume=parts / "last-state")
    assert tensors_equal(whole / "last.safetensors", parts / "last.safetensors")
    by_group = rates(whole)
    assert by_group["unet_plus"] == pytest.approx(4 * by_group["unet"]) and by_group["textencoder_plus"] == pytest.approx(
        4 * by_group["textencoder"]
    )


def test_network_multiplier_is_the_strength_of_the_network_while_it_trains(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, same = train("plain"), train("same", "network_multiplier = 1.0")
    assert tensors_equal(plain / "last.safetensors", same / "last.safetensors")
    none = load_file(train("none", "network_multiplier = 0.0") / "last.safetensors")
    assert all(not tensor.any() for name, tensor in none.items() if "lora_up" in name)  # without strength nothing can be learned
    strengths = []
    before = LoRANetwork.set_multiplier
    monkeypatch.setattr(LoRANetwork, "set_multiplier", lambda self, value: (strengths.append(value), before(self, value)))
    half = train("half", "network_multiplier = 0.5")
    assert strengths == [0.5, 1.0, 0.5, 1.0]  # back at full strength after each update, for samples
    assert not tensors_equal(plain / "last.safetensors", half / "last.safetensors")


def test_own_words_and_a_picture_are_kept_in_the_file(train: Train, tmp_path: Path) -> None:
    cover = tmp_path / "cover.bin"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(cover, format="PNG")  # what the bytes say counts, not the name
    words = {"usage_hint": "gently", "trigger_phrase": "shs dog", "merged_from": "a, b", "preprocessor": "none"}
    words["is_negative_embedding"] = "false"
    folder = train("told", metadata_thumbnail=cover, no_metadata=True, **{f"metadata_{word}": text for word, text in words.items()})
    with safe_open(folder / "last.safetensors", "pt") as file:
        metadata = file.metadata()
    for word, text in words.items():
        assert metadata[f"modelspec.{word}"] == text
    head, data = metadata["modelspec.thumbnail"].split(",")
    assert head == "data:image/png;base64" and base64.b64decode(data) == cover.read_bytes()


@pytest.mark.parametrize(("content", "code"), [(None, "PATH-001"), (b"no image", "DISK-005")])
def test_a_thumbnail_that_is_none_is_refused_before_training(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / "cover.png").write_bytes(content)
    folder = train("refused", exit_code=2, metadata_thumbnail=tmp_path / "cover.png")
    refusal(capsys.readouterr().err, code, "--metadata_thumbnail", tmp_path / "cover.png")
    assert not (folder / "last.safetensors").exists()


def test_what_is_told_goes_into_the_file_at_the_level_asked_for(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.log"
    file.write_text("of another run", encoding="utf-8")
    train("told", console_log_file=file, console_log_simple=True)
    text = file.read_text(encoding="utf-8")
    assert "LoRA:" in text and "of another run" not in text and "LoRA:" not in capsys.readouterr().err
    train("quiet", console_log_level="ERROR")
    assert "LoRA:" not in capsys.readouterr().err
    train("refused", exit_code=2, console_log_file=file, noise_offset=0.1, adaptive_noise_scale=0.1, resume=tmp_path / "none")
    assert "error: --resume" in file.read_text(encoding="utf-8") and "error: --resume" in capsys.readouterr().err
    train("nowhere", exit_code=2, console_log_file=tmp_path / "none" / "run.log")
    assert "--console_log_file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["console_log_file", "report_html"])
def test_a_text_overwrites_no_binary_file_and_no_file_that_the_command_reads(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    model, prompts = tmp_path / "lora.bak", tmp_path / "prompts.txt"
    model.write_bytes(b"PK\3\4\0\0")
    prompts.write_text("a cat\n", encoding="utf-8")
    samples = {"sample_prompts": prompts, "sample_every_n_epochs": 1}
    for target in (model, prompts):
        before = target.read_bytes()
        train("refused", exit_code=2, dry_run=True, **samples, **{option: target})
        refusal(capsys.readouterr().err, "PATH-011", f"--{option}", target)
        assert target.read_bytes() == before


def test_options_are_kept_in_the_tensorboard_log_without_paths_and_secrets(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def texts(folder: Path) -> list[str]:
        accumulator = EventAccumulator(str(next(folder.glob("*/network_train"))))
        accumulator.Reload()
        tags = accumulator.Tags()["tensors"]
        return [accumulator.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags]

    train("with", logging_dir=tmp_path / "logs", log_config=True, wandb_api_key="abcdef0123456789")
    train("without", logging_dir=tmp_path / "other")
    assert texts(tmp_path / "other") == []
    (text,) = texts(tmp_path / "logs")
    assert "| learning_rate | 0.01 |" in text and "| network_dim | 2 |" in text
    assert str(tmp_path) not in text and "abcdef0123456789" not in text
