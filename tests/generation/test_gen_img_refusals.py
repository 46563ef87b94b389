"""gen_img.py as a user starts it: what it refuses, in one line, and what an interrupted run leaves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gen_img
from tests.generation.drawing import QUICK, Draw, refused
from tests.generation.test_same_as_samples import pixels
from tests.messages import refusals
from tests.scripts.running import run_in_process
from tests.small_models import write_checkpoint


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ((), ("OPT-007", "--prompt")),
        (("--prompt", " "), ("CFG-013", "--prompt", "no prompt")),
        (("--prompt", "a", "--from_file", "FILE"), ("OPT-008", "--prompt, --from_file")),
        (("--prompt", "a", "--network_mul", "1"), ("OPT-009", "--network_mul:", "--network_weights")),
        (
            ("--prompt", "a", "--network_weights", "LORA", "--network_mul", "1", "2"),
            ("OPT-005", "--network_mul", "2 values", "1 --network_weights"),
        ),
        (("--prompt", "a --am 1,2", "--network_weights", "LORA"), ("CFG-013", "--am 1,2", "'a'", "1 --network_weights")),
        (("--prompt", "a --am x", "--network_weights", "LORA"), ("CFG-013", "--am", "'x'", "numbers")),
        (("--prompt", "a --t 0.5"), ("CFG-013", "--t 0.5", "'a'", "--image_path")),
        (("--prompt", "a", "--strength", "0.5"), ("OPT-009", "--strength:", "--image_path")),
        (("--prompt", "a", "--mask_path", "FILE"), ("OPT-009", "--mask_path:", "--image_path")),
        (("--prompt", "a", "--image_path", "FILE"), ("DATA-001", "p.txt")),
        (("--prompt", "a", "--fp16", "--bf16"), ("OPT-008", "--fp16, --bf16")),
        (("--prompt", "a", "--network_weights", "LORA", "--network_args", "x"), ("OPT-010", "--network_args", "key=value", "x")),
        (("--prompt", "a", "--network_weights", "LORA", "--network_module", "os.path"), ("LORA-010", "--network_module os.path")),
        (("--prompt", "a", "--textual_inversion_embeddings", "LORA"), ("LORA-012", "--textual_inversion_embeddings", "dog.safetensors")),
        (("--prompt", "a", "--textual_inversion_embeddings", "WORD"), ("MODEL-014", "'dog'", "rename the file")),
        (("--prompt", "a", "--textual_inversion_embeddings", "ZXQ", "ZXQ"), ("MODEL-014", "'zxq'", "rename one")),
        (("--prompt", "a --w wide"), ("CFG-013", "--w 'wide'", "whole number")),
        (("--prompt", "a", "--device", "warp9"), ("OPT-018", "--device warp9")),
        (("--prompt", "a", "--clip_skip", "24"), ("MODEL-015", "--clip_skip 24", "text encoder")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    argv: tuple[str, ...], asked: tuple[str, ...], tiny_v1: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"FILE": tmp_path / "p.txt", "LORA": lora, "WORD": tmp_path / "dog.safetensors", "ZXQ": tmp_path / "zxq.safetensors"}
    files["FILE"].write_text("a cat\n", encoding="utf-8")
    for name in ("WORD", "ZXQ"):
        save_file({"emb_params": torch.ones(1, 64)}, files[name])
    errors = refused(capsys, "--ckpt", tiny_v1, "--outdir", tmp_path / "out", *QUICK, *(files.get(word, word) for word in argv))
    assert "Traceback" not in errors
    refusals([line for line in errors.splitlines() if line.startswith("error:")], asked)
    assert not (tmp_path / "out").exists()


def test_a_network_for_another_model_is_refused_whoever_reads_it(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = write_checkpoint(tmp_path / "wide.safetensors", "v2")
    for module in ("networks.lora", "lycoris.kohya"):
        if module == "lycoris.kohya":
            pytest.importorskip("lycoris.kohya")
        argv = ("--ckpt", wide, "--v2", "--prompt", "a", "--network_weights", lora, "--network_module", module, "--outdir", tmp_path)
        errors = [line for line in refused(capsys, *argv, *QUICK).splitlines() if line.startswith("error:")]
        refusals(errors, ("LORA-005", "dog.safetensors"))


def test_an_interrupted_run_leaves_whole_pictures_only(draw: Draw, tiny_v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save
    written = []

    def stopped(self: Image.Image, target: Path, **more: object) -> None:
        written.append(target)
        if len(written) == 2:
            Path(target).write_bytes(b"\x89PNG half of it")
            raise KeyboardInterrupt
        save(self, target, **more)

    monkeypatch.setattr(Image.Image, "save", stopped)
    argv = ("--ckpt", tiny_v1, "--outdir", tmp_path / "out", *QUICK, "--prompt", "a cat --d 1", "--images_per_prompt", 3)
    assert run_in_process(gen_img.main, *argv) == 130
    (left,) = (tmp_path / "out").iterdir()
    assert pixels(left).shape == (64, 64, 3) and math.isfinite(pixels(left).mean())
