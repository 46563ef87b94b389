"""Every command of the page runs as it stands there, on the tiny model, and draws."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gen_img
from examples.photos import write_photos
from tests.scripts.running import run_in_process
from tests.surgery.test_documented_tools import commands
from tools import compare_networks

ON_A_TEST = ("--steps", "1")


def test_the_commands_of_the_page_draw(tiny_v1: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_v1, "v1-5-pruned-emaonly.safetensors")
    Path("output").mkdir()
    for name in ("dog.safetensors", "style.safetensors"):
        shutil.copy(lora, Path("output", name))
    save_file({"emb_params": torch.ones(1, 64)}, "zxq.safetensors")
    Path("prompts.txt").write_text("a dog --d 1 --w 64 --h 64\n", encoding="utf-8")
    Image.effect_noise((64, 64), 50).convert("RGB").save("photo.png")
    Image.new("L", (64, 64), 255).save("mask.png")
    found = commands("gen_img.md")
    assert len(found) == 5
    drawn = 0
    for script, *options in found:
        assert script == "gen_img.py"
        sizes = [] if "--image_path" in options else ["--W", "64", "--H", "64"]
        options = [option.replace("--w 512 --h 512", "--w 64 --h 64") for option in options]
        assert run_in_process(gen_img.main, *options, *ON_A_TEST, *sizes) == 0
        count = len(list(Path("images").glob("*.png")))
        assert count > drawn
        drawn = count


def test_the_commands_of_choosing_compare(tiny_v1: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_v1, "v1-5-pruned-emaonly.safetensors")
    Path("output").mkdir()
    for name in ("dog-000001.safetensors", "dog.safetensors"):
        shutil.copy(lora, Path("output", name))
    Path("prompts.txt").write_text("a dog --d 1\n", encoding="utf-8")
    Path("kept_apart").mkdir()
    write_photos(Path("kept_apart"))
    found = commands("choose.md")
    assert len(found) == 2
    for script, *options in found:
        assert script == "tools/compare_networks.py"
        assert run_in_process(compare_networks.main, *options, *ON_A_TEST, "--W", "64", "--H", "64", "--resolution", "64") == 0
    assert Path("comparison/sheet.png").is_file() and "lowest validation loss" in Path("comparison/index.html").read_text(encoding="utf-8")
