"""Escape sequences in names, captions, tensors and metadata of others reach no terminal, whatever prints them; JSON stays what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import train_network
from networks import check_lora_weights
from tests.scripts.running import run_in_process
from tests.scripts.starting import dataset, start
from tools import show_metadata

EVIL = "cat\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x7f"
OBEYED = set("\x1b\x07\x9b\u202e\u2066\x7f")
SHOWN = r"cat\x1b]0;owned\x07\x1b[2J\u009b31m\u202egnp.exe\u2066\u007f"
NAME = "cat\x9b31m\u202egnp"  # what Windows takes as the name of a file


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    module = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {f"{module}.lora_up.weight": torch.ones(4, 1), f"{module}.lora_down.weight": torch.ones(1, 4), EVIL: torch.ones(3)}
    save_file(tensors, path, {"ss_output_name": EVIL, EVIL: "x", "ss_tag_frequency": json.dumps({EVIL: {EVIL: 1}})})
    return path


def test_what_tools_print_of_a_file(lora: Path, capsys: pytest.CaptureFixture) -> None:
    run_in_process(check_lora_weights.main, lora, "--show_all_keys")
    assert run_in_process(show_metadata.main, "--model", lora) == 0
    told = capsys.readouterr()
    text = told.out + told.err
    assert not OBEYED & set(text) and text.count(SHOWN) >= 5 and f"error: file {lora}: {SHOWN}" in told.err


def test_json_is_what_the_file_holds(lora: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_in_process(show_metadata.main, "--model", lora, "--json") == 0
    out = capsys.readouterr().out
    assert json.loads(out)["ss_output_name"] == EVIL and not OBEYED & set(out)


def test_what_a_run_shows_of_images_and_captions(tiny_v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / f"{NAME}.png")
    (folder / f"{NAME}.txt").write_text(EVIL, encoding="utf-8")
    (folder / f"{NAME}2.png").write_bytes(b"no image")
    options = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", folder, subset='caption_extension = ".txt"\nclass_tokens = "a cat"'),
        "network_module": "networks.lora",
        "max_train_steps": 1,
        "output_dir": tmp_path / "out",
    }
    texts = []
    wrong_name = {"output_name": EVIL.replace("\x1b[2J", "/")}
    for more in ({"dry_run": True}, {"debug_dataset": True}, wrong_name, {"debug_dataset": True, "skip_bad_images": True}):
        start(train_network.main, **options, **more)
        told = capsys.readouterr()
        texts.append(told.out + told.err)
        assert not OBEYED & set(texts[-1])
    assert [r"\u009b31m\u202egnp" in text for text in texts].count(True) >= 3 and r"\x1b]0;owned" in texts[2]


def test_pages_show_signs_of_markup_as_text(tmp_path: Path) -> None:
    from library.training.samples.sample_page import Sample, page_text

    sample = Sample(tmp_path / "a.png", "e000001", 0, "20260101000000", "<script>", '"><img onerror=x>', "</pre>", 1, (64, 64))
    text = page_text('<b title="', [sample], running=False)
    assert "<script>alert" not in text and "<img onerror" not in text and "<b title" not in text and "&lt;script&gt;" in text
