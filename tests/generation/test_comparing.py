"""tools/compare_networks.py: the order of files, cells that are drawn once, a model that is loaded once, losses, page and sheet."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import gen_img
from library.generation.checks import NetworkChoice
from library.generation.drawing import Studio
from library.generation.plan import Picture
from library.model.load import load
from library.options.reading.parse import parse
from library.options.tool_groups.pictures import CompareNetworks
from library.pictures.prompt_files import SamplePrompt
from networks.lora import create_network
from tests.generation.conftest import QUICK, Compare
from tests.generation.test_same_as_samples import pixels
from tests.messages import message, refusal
from tests.scripts.running import run_in_process
from tests.small_models import write_checkpoint
from tools import compare_networks


def cells_of(folder: Path) -> dict[str, int]:
    """Each image's name and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


class Page(HTMLParser):
    """What is in a page: the words of its table's head, the texts of its images, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.heads: list[str] = []
        self.pictures: list[str] = []
        self.addresses: list[str] = []
        self._tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._tags.append(tag)
        self.addresses += [address for name in ("src", "href") if (address := values.get(name))]
        if tag == "button":
            self.pictures.append(values["data-text"] or "")

    def handle_data(self, data: str) -> None:
        if self._tags and self._tags[-1] == "th" and data.strip():
            self.heads.append(data.strip())


def test_a_cell_is_the_picture_that_gen_img_draws(compare: Compare, epochs: Path, tiny_v1: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a cat --n bad --d 3\na dog\n", encoding="utf-8")
    folder = compare("--from_file", prompts, "--strengths", 0.5, 1, "--without", "--seed", 9, "--sampler", "euler_a", "--batch_size", 1)
    assert len(cells_of(folder)) == 2 * (3 * 2 + 1)
    drawn = {}
    for path in (folder / "cells").iterdir():
        with Image.open(path) as image:
            drawn[image.text["parameters"]] = pixels(path)  # type: ignore[attr-defined]
    for prompt, seed in (("a cat --n bad", 3), ("a dog", 9)):
        argv = ("--ckpt", tiny_v1, *QUICK, "--sampler", "euler_a", "--outdir", tmp_path / f"own{seed}")
        network = ("--network_weights", epochs / "dog-000010.safetensors", "--network_mul", 0.5)
        assert run_in_process(gen_img.main, *argv, *network, "--prompt", f"{prompt} --d {seed}") == 0
        (own,) = (tmp_path / f"own{seed}").iterdir()
        (same,) = [text for text in drawn if f"Seed: {seed}," in text and text.endswith("Network: dog-000010, strength 0.5")]
        assert (drawn[same] == pixels(own)).all()
        assert run_in_process(gen_img.main, *argv, "--prompt", f"{prompt} --d {seed}", "--sequential_file_name") == 0
        (plain,) = [text for text in drawn if f"Seed: {seed}," in text and "Network" not in text]
        assert (drawn[plain] == pixels(tmp_path / f"own{seed}" / "im_000001.png")).all()


def test_the_model_is_loaded_once(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    import library.generation.drawing as drawing

    models = []
    load = drawing.load
    monkeypatch.setattr(drawing, "load", lambda *argv, **more: models.append(load(*argv, **more)) or models[-1])
    compare("--prompt", "a cat", "--strengths", 0.5, 1.0)
    assert len(models) == 1


@pytest.mark.parametrize("module", ["networks.lora", "lycoris.kohya"])
def test_a_network_that_is_taken_off_leaves_the_model_as_it_was(module: str, lora: Path, tiny_v1: Path) -> None:
    if module == "lycoris.kohya":
        pytest.importorskip("lycoris.kohya")
    options = parse(CompareNetworks, ["--ckpt", str(tiny_v1)])
    picture = Picture(0, SamplePrompt("a cat", width=64, height=64, steps=2, sampler="ddim"), 1)
    adapted = replace(picture, prompt=replace(picture.prompt, strengths=(1.0,)))
    studio = Studio.load(options.model, options.work)
    (before,) = studio.draw([picture])
    one = studio.with_networks([NetworkChoice(lora, module)])
    (with_it,) = one.draw([adapted])
    two = one.with_networks([NetworkChoice(lora, module)])
    assert (np.asarray(two.draw([adapted])[0]) == np.asarray(with_it)).all() and (np.asarray(with_it) != np.asarray(before)).any()
    (after,) = two.with_networks([]).draw([picture])
    assert (np.asarray(after) == np.asarray(before)).all()


def test_lines_about_a_file_name_the_option_of_the_command(compare: Compare, epochs: Path, capsys) -> None:
    compare("--prompt", "a cat")
    lines = capsys.readouterr().err
    message(lines, f"--networks {epochs / 'dog.safetensors'}", "strength 1")
    message(lines, "images: 3 in all, 3 to generate")
    assert "--network_weights" not in lines


def test_a_second_call_draws_only_what_is_missing(compare: Compare, epochs: Path) -> None:
    folder = compare("--prompt", "a cat")
    before = cells_of(folder)
    assert compare("--prompt", "a cat") == folder and cells_of(folder) == before
    gone = next((folder / "cells").iterdir())
    gone.unlink()
    spoilt = sorted((folder / "cells").iterdir())[0]
    spoilt.write_bytes(spoilt.read_bytes()[:200])
    compare("--prompt", "a cat")
    after = cells_of(folder)
    assert {name for name in before if after[name] != before[name]} == {gone.name, spoilt.name}
    for changed in (("--prompt", "a dog"), ("--prompt", "a cat", "--scale", 3), ("--prompt", "a cat", "--bf16")):
        known = len(cells_of(folder))
        compare(*changed)
        assert len(cells_of(folder)) == known + 3
    save_file({key: tensor * 1.5 for key, tensor in load_file(epochs / "dog.safetensors").items()}, epochs / "dog.safetensors")
    known = len(cells_of(folder))
    compare("--prompt", "a cat")
    assert len(cells_of(folder)) == known + 1  # the changed file's


def test_a_killed_comparison_goes_on(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    import library.generation.comparing.run as run

    write, count = run.write_png, 0

    def killed(*argv: object) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(*argv)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "write_png", killed)
    folder = compare("--prompt", "a cat", "--strengths", 0.5, 1, code=130)
    assert len(cells_of(folder)) == 2
    message((folder / "index.html").read_text(encoding="utf-8"), "4 still")  # of the first file's end
    monkeypatch.setattr(run, "write_png", write)
    before = cells_of(folder)
    compare("--prompt", "a cat", "--strengths", 0.5, 1)
    assert len(cells_of(folder)) == 6 and all(cells_of(folder)[name] == when for name, when in before.items())


def test_page_and_sheet_hold_everything(compare: Compare, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a <b>cat</b> & \"dog\" --n 'bad'\na hen --w 96\n", encoding="utf-8")
    folder = compare("--from_file", tmp_path / "p.txt", "--strengths", 0.5, 1)
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.heads[:9] == ["dog-000002", "dog-000010", "dog", "0.5", "1", "0.5", "1", "0.5", "1"]
    assert page.pictures[0] == 'dog-000002 at 0.5 — a <b>cat</b> & "dog"' and len(page.pictures) == 12
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)  # nothing is loaded from elsewhere
    assert not re.search(r"https?://|@import|url\(", text)
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 6 * 96 and sheet.height > 96 + 64
        cell = pixels(next(iter((folder / "cells").iterdir())))
        assert np.asarray(sheet.convert("RGB")).shape[0] > cell.shape[0]


def test_large_pictures_are_packed_and_small_ones_stay_as_they_are(tmp_path: Path) -> None:
    from library.generation.comparing import page

    Image.effect_noise((64, 64), 80).save(tmp_path / "small.png")
    Image.effect_noise((512, 512), 80).convert("RGB").save(tmp_path / "large.png")
    assert page._embedded(tmp_path / "small.png").startswith("data:image/png;base64,")
    packed = page._embedded(tmp_path / "large.png")
    assert packed.startswith("data:image/webp;base64,") and len(packed) < (tmp_path / "large.png").stat().st_size


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ((), ("OPT-007", "--prompt")),
        (("--prompt", "a", "--from_file", "FILE"), ("OPT-008", "--prompt, --from_file")),
        (("--prompt", "a", "--images", "FOLDER", "--dataset_config", "FILE"), ("OPT-008", "--images, --dataset_config")),
        (("--prompt", "a", "--networks", "none*"), ("PATH-001", "--networks", "none*")),
        (("--prompt", "a", "--networks", "none.safetensors"), ("PATH-001", "--networks", "none.safetensors")),
        (("--prompt", "a", "--images", "FOLDER"), ("DATA-003", "empty FOLDER")),
        (("--prompt", "a", "--fp16", "--bf16"), ("OPT-008", "--fp16, --bf16")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    argv: tuple[str, ...], asked: tuple[str, ...], compare: Compare, tmp_path: Path, capsys
) -> None:
    files = {"FILE": tmp_path / "p.txt", "FOLDER": tmp_path / "empty FOLDER"}
    files["FILE"].write_text("a\n", encoding="utf-8")
    files["FOLDER"].mkdir()
    folder = compare(*(files.get(word, word) for word in argv), code=2)
    errors = capsys.readouterr().err
    refusal(errors, *asked)
    assert "Traceback" not in errors and not folder.exists()


def test_a_network_module_can_be_named(compare: Compare, epochs: Path) -> None:
    pytest.importorskip("lycoris.kohya")
    folder = compare("--prompt", "a cat", "--networks", epochs / "dog.safetensors")
    (ours,) = (folder / "cells").iterdir()
    compare(
        "--prompt",
        "a cat",
        "--networks",
        epochs / "dog.safetensors",
        epochs / "dog-000002.safetensors",
        "--network_module",
        "lycoris.kohya",
    )
    theirs = [path for path in (folder / "cells").iterdir() if path != ours]
    assert len(theirs) == 2 and min(np.abs(pixels(path) - pixels(ours)).max() for path in theirs) <= 1
    assert torch.is_grad_enabled()


def test_other_options_of_the_model_and_of_the_work_act(tiny_v2: Path, tmp_path: Path) -> None:
    """Each changes the images, or generates none again where it changes none."""
    model, vae = load(tiny_v2, v2=True), write_checkpoint(tmp_path / "vae.safetensors", "v2", seed=4)
    network = create_network(1.0, 2, 2.0, None, model.text_encoder, model.unet)
    network.save_weights(tmp_path / "a.safetensors", None, {})
    base = ("--networks", tmp_path / "a.safetensors", "--outdir", tmp_path / "out", "--prompt", "word " * 80, *QUICK, "--v2", "--sdpa")
    seen: dict[str, bytes] = {}
    for more, anew in (
        (("--ckpt", tiny_v2), True),
        (("--pretrained_model_name_or_path", tiny_v2, "--device", "cpu", "--xformers"), False),
        (("--ckpt", tiny_v2, "--tokenizer_cache_dir", tmp_path / "tokens"), False),
        (("--ckpt", tiny_v2, "--v_parameterization"), True),
        (("--ckpt", tiny_v2, "--v_parameterization", "--zero_terminal_snr"), True),
        (("--ckpt", tiny_v2, "--vae", vae), True),
        (("--ckpt", tiny_v2, "--clip_skip", 2), True),
        (("--ckpt", tiny_v2, "--max_embeddings_multiples", 1), True),
        (("--ckpt", tiny_v2, "--bf16", "--no_half_vae"), True),
    ):
        assert run_in_process(compare_networks.main, *base, *more) == 0
        cells = {path.name: pixels(path).tobytes() for path in (tmp_path / "out" / "cells").iterdir()}
        assert len(cells) == len(seen) + anew, more
        seen = cells
    assert len(set(seen.values())) >= len(seen) - 1  # v2 reads its last layer but one with any --clip_skip


@pytest.mark.parametrize("main", [gen_img.main, compare_networks.main], ids=["gen_img", "compare_networks"])
def test_a_full_disk_is_one_line(main: Callable[..., None], tiny_v1: Path, epochs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def full(self: Image.Image, target: Path, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    files = ("--networks", epochs / "dog.safetensors") if main is compare_networks.main else ()
    argv = ("--ckpt", tiny_v1, "--outdir", tmp_path / "out", "--prompt", "a", *QUICK, *files)
    assert run_in_process(main, *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    refusal([line], "DISK-004", "No space left on device", "free some space")
    assert not list((tmp_path / "out").rglob("*.png"))
