"""The commands for the small inpainting model on docs/inpainting.md run as they stand there, one after the other."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.small_model import holes
from tests.scripts.running import run_in_process

ROOT = Path(__file__).parents[2]
MODEL = Path("examples/small_model/small_sd_inpainting.safetensors")
SHORT = {"train_network.py": ["--max_train_steps", "2"], "gen_img.py": ["--steps", "2"]}  # the last of two values counts


def commands() -> list[list[str]]:
    """The script or module and its options, of each command of the section."""
    text = (ROOT / "docs" / "inpainting.md").read_text(encoding="utf-8")
    section = text.split("## Try it on the small model")[1].split("\n## ")[0]
    found = re.findall(r"^    (?:accelerate launch|python(?: -m)?) (?:.*\\\n)*.*$", section, re.MULTILINE)
    return [shlex.split(re.sub(r"^(accelerate launch( --quiet)?|python( -m)?) ", "", line.strip()).replace("\\\n", " ")) for line in found]


def test_the_commands_for_the_small_model_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    MODEL.parent.mkdir(parents=True)
    shutil.copy(ROOT / MODEL, MODEL)
    (script, *options), *others = commands()
    assert script == "examples.small_model.holes" and [name for name, *_ in others] == ["gen_img.py", "train_network.py", "gen_img.py"]
    holes.main(options)
    assert f"{Path('output/holes/0.png')}  {others[0][others[0].index('--prompt') + 1]}" in capsys.readouterr().out
    for script, *options in others:
        main = importlib.import_module(script.removesuffix(".py")).main
        assert run_in_process(main, *options, *SHORT[script]) == 0, capsys.readouterr().err
    pictures = sorted(Path("output/holes/filled").glob("*.png"))
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (64, 64)
    assert Path("output/holes/zxc.safetensors").is_file()


def test_masks_cover_their_shape_and_what_is_outside_is_of_one_colour() -> None:
    for seed in range(20):
        one = holes.hole(seed)
        pixels = np.asarray(one.picture)
        assert not (one.shape & one.outside).any() and one.shape.any()
        assert (pixels[one.outside] == pixels[one.outside][0]).mean() > 0.99
