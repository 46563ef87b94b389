"""--train_inpainting as a user runs it: every script, caches and mask files, exact resume, merging, and what others make of the files."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fine_tune
import gen_img
import train_db
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from library.model.diffusers_folder import save_diffusers
from library.model.load import load
from networks import merge_lora
from networks.lora import create_network_from_weights
from tests.listening import Heard
from tests.messages import message, refusals
from tests.scripts.running import largest_difference, run_in_process, tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import losses, stop_after

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
UPDATES = 5
WORD = {"token_string": "zorb", "init_word": "cat", "use_object_template": True, "save_model_as": "safetensors"}
SCRIPTS: dict[str, tuple[Any, dict[str, object]]] = {
    "lora": (train_network.main, {"network_module": "networks.lora", "network_dim": 2, "cache_latents": True}),
    "db": (train_db.main, {"save_model_as": "safetensors", "save_precision": "float"}),
    "fine_tune": (fine_tune.main, {"train_text_encoder": True, "save_model_as": "safetensors", "save_precision": "float"}),
    "ti": (train_textual_inversion.main, WORD),
    "xti": (train_textual_inversion_XTI.main, WORD),
}
QUICK = ("lora", "db", "ti")


@pytest.fixture
def command(tiny_inpainting: Path, photos: Path, tmp_path: Path):
    """The options of a run of the tiny inpainting model on photographs; `masks` gives each a mask file."""

    def made(script: str, masks: bool = False, **more: object) -> dict[str, object]:
        subset = "flip_aug = true\n"
        if masks:
            subset += f"conditioning_data_dir = '{write_masks(photos, tmp_path / 'masks')}'\n"
        if script == "fine_tune":
            names = [path.stem for path in sorted(photos.iterdir()) if path.suffix != ".txt"]
            entries = ", ".join(f'"{name}": {{"caption": "a photo of {name}"}}' for name in names)
            (tmp_path / "meta.json").write_text(f"{{{entries}}}", encoding="utf-8")
            subset += f"metadata_file = '{tmp_path / 'meta.json'}'\n"
        return {
            "pretrained_model_name_or_path": tiny_inpainting,
            "train_inpainting": True,
            "dataset_config": dataset(tmp_path / "data.toml", photos, subset=subset),
            "output_name": "cat",
            "max_train_steps": UPDATES,
            "learning_rate": 1e-3,
            "max_data_loader_n_workers": 0,
            "seed": 7,
            **SCRIPTS[script][1],
            **more,
        }

    return made


def write_masks(photos: Path, folder: Path) -> Path:
    """A mask for each photograph, white on the left."""
    folder.mkdir(exist_ok=True)
    for path in photos.iterdir():
        if path.suffix not in (".txt", ".caption"):
            with Image.open(path) as photo:
                mask = Image.new("L", photo.size, 0)
            mask.paste(255, (0, 0, mask.width // 2, mask.height))
            mask.save(folder / f"{path.stem}.png")
    return folder


@pytest.mark.parametrize("script", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SCRIPTS if name not in QUICK)])
def test_stopped_twice_and_resumed_ends_as_one_in_one_go(script: str, command, tmp_path: Path) -> None:
    main, run_options = SCRIPTS[script][0], command(script)
    with losses() as expected:
        assert start(main, **run_options, output_dir=tmp_path / "whole") == 0
    run_options |= {"output_dir": tmp_path / "parts", "save_state": True}
    with losses() as losses_of_the_parts:
        for number, step in enumerate(sorted(random.Random(script).sample(range(1, UPDATES), 2))):
            assert stop_after(step, main, **{**run_options, "max_data_loader_n_workers": number}) == 130
            run_options["resume"] = tmp_path / "parts" / f"cat-step{step:08d}-state"
        assert start(main, **run_options) == 0
    assert losses_of_the_parts == expected and len(losses_of_the_parts) == UPDATES
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "parts" / "cat.safetensors")
    before = load_file(str(run_options["pretrained_model_name_or_path"]))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    if script in ("db", "fine_tune"):
        moved = (load_file(tmp_path / "whole" / "cat.safetensors")[first] != before[first].float()).float().mean(dim=(0, 2, 3))
        assert moved.shape == (9,) and (moved > 0.9).all(), "each of the nine channels is trained"


def test_cached_latents_train_as_uncached_ones_do(command, tmp_path: Path) -> None:
    """Only rounding differs: the masked images are encoded in each draw in any case, of the very pixels of the cache."""
    for name, cached in (("cached", True), ("uncached", False)):
        run_options = command("lora", cache_latents=cached, optimizer_type="SGD", learning_rate=1)
        assert start(train_network.main, **run_options, output_dir=tmp_path / name) == 0
    one, other = (tmp_path / name / "cat.safetensors" for name in ("cached", "uncached"))
    moved = max(float(tensor.abs().max()) for name, tensor in load_file(one).items() if "lora_up" in name)
    assert moved > 0 and largest_difference(one, other) < 1e-3 * moved


def test_mask_files_take_the_place_of_drawn_masks(command, tmp_path: Path, heard: Heard) -> None:
    """Validation, rehearsal, caches on the disk and masked loss go with them."""
    assert start(train_network.main, **command("lora"), output_dir=tmp_path / "drawn") == 0
    more = {"validation_split": 0.3, "rehearsal": "on", "sample_at_first": False}
    assert start(train_network.main, **command("lora", masks=True, **more), output_dir=tmp_path / "files") == 0
    assert not any("conditioning_data_dir" in line for line in heard.lines)
    assert start(train_network.main, **command("lora", masks=True, masked_loss=True), output_dir=tmp_path / "loss") == 0
    files = [tmp_path / name / "cat.safetensors" for name in ("drawn", "files", "loss")]
    assert not any(tensors_equal(one, other) for one, other in itertools.pairwise(files))


def test_a_model_and_an_option_that_do_not_go_together_are_one_line_each(
    command, tiny_v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(train_network.main, **command("lora", train_inpainting=False), output_dir=tmp_path / "out") == 2
    assert start(train_network.main, **command("lora", pretrained_model_name_or_path=tiny_v1), output_dir=tmp_path / "out") == 2
    missing, wrong = capsys.readouterr().err.splitlines()
    assert "--train_inpainting is missing" in missing and "--train_inpainting contradicts" in wrong
    assert not (tmp_path / "out").exists()


def test_files_tell_of_it_and_of_the_model(command, tmp_path: Path) -> None:
    assert start(train_network.main, **command("lora", max_train_steps=1), output_dir=tmp_path / "lora") == 0
    assert start(train_db.main, **command("db", max_train_steps=1), output_dir=tmp_path / "db") == 0
    descriptions = []
    for name in ("lora", "db"):
        with safe_open(tmp_path / name / "cat.safetensors", "pt") as file:
            descriptions.append(file.metadata())
    assert descriptions[0]["ss_train_inpainting"] == "True" and descriptions[0]["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert descriptions[1]["modelspec.architecture"] == "stable-diffusion-v1-inpainting"


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, Path]:
    rows, columns = np.mgrid[0:64, 0:64]
    Image.fromarray(np.stack([rows * 3, columns * 3, 200 - rows - columns], -1).clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 40, 30))
    mask.save(tmp_path / "mask.png")
    return tmp_path / "photo.png", tmp_path / "mask.png"


def pipeline_picture(folder: Path, lora: Path | None, picture: tuple[Path, Path]) -> np.ndarray:
    """What diffusers' inpainting pipeline draws, with the LoRA loaded by its own means."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    if lora is not None:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    image, mask = map(Image.open, picture)
    asked = {"num_inference_steps": 3, "guidance_scale": 4.0, "width": 64, "height": 64, "generator": torch.Generator().manual_seed(5)}
    return np.asarray(pipeline("a cat", image=image, mask_image=mask, **asked).images[0], dtype=np.int16)


def drawn(model: Path, out: Path, picture: tuple[Path, Path], *more: object) -> np.ndarray:
    """The same by gen_img.py."""
    asked = ["--ckpt", model, "--prompt", "a cat", "--steps", 3, "--scale", 4, "--seed", 5, "--outdir", out, "--image_path", picture[0]]
    assert run_in_process(gen_img.main, *asked, "--mask_path", picture[1], *more) == 0
    (file,) = out.glob("*.png")
    with Image.open(file) as image:
        return np.asarray(image, dtype=np.int16)


def test_a_lora_is_drawn_alike_by_gen_img_a_merged_model_samples_and_diffusers(
    command, tiny_inpainting: Path, picture: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text(f"a cat --w 64 --h 64 --s 3 --l 4 --d 5 --i {picture[0]} --m {picture[1]}\n", encoding="utf-8")
    run_options = command("lora", learning_rate=1e-2, sample_prompts=tmp_path / "prompts.txt", sample_every_n_steps=UPDATES)
    assert start(train_network.main, **run_options, output_dir=tmp_path / "out") == 0
    lora, merged = tmp_path / "out" / "cat.safetensors", tmp_path / "merged.safetensors"
    save_diffusers(load(tiny_inpainting), tmp_path / "folder")
    plain, theirs = (pipeline_picture(tmp_path / "folder", one, picture) for one in (None, lora))
    assert np.abs(drawn(tiny_inpainting, tmp_path / "plain", picture) - plain).max() <= 1
    ours = drawn(tiny_inpainting, tmp_path / "ours", picture, "--network_weights", lora)
    assert np.abs(ours - theirs).max() <= 2 and np.abs(theirs - plain).max() > 8
    (sample,) = (tmp_path / "out" / "sample").glob("*.png")
    assert np.abs(np.asarray(Image.open(sample), dtype=np.int16) - ours).max() <= 1
    merge_argv = ["--sd_model", tiny_inpainting, "--save_to", merged, "--models", lora, "--ratios", 1, "--precision", "float"]
    assert run_in_process(merge_lora.main, *merge_argv, "--save_precision", "float") == 0
    assert np.abs(drawn(merged, tmp_path / "of merged", picture) - ours).max() <= 2


def test_a_lora_goes_from_an_inpainting_model_to_an_ordinary_one_and_back(
    command, tiny_v1: Path, tiny_inpainting: Path, tmp_path: Path
) -> None:
    """With convolutions too; none of them is the first one, whose inputs differ."""
    ranks = ["conv_dim=2", "conv_alpha=1"]
    assert start(train_network.main, **command("lora", network_args=ranks, max_train_steps=2), output_dir=tmp_path / "nine") == 0
    four = command("lora", network_args=ranks, max_train_steps=2, train_inpainting=False, pretrained_model_name_or_path=tiny_v1)
    assert start(train_network.main, **four, output_dir=tmp_path / "four", network_weights=tmp_path / "nine" / "cat.safetensors") == 0
    assert load_file(tmp_path / "nine" / "cat.safetensors").keys() == load_file(tmp_path / "four" / "cat.safetensors").keys()
    assert not any("conv_in" in name for name in load_file(tmp_path / "four" / "cat.safetensors"))
    back = command("lora", network_args=ranks, max_train_steps=2, network_weights=tmp_path / "four" / "cat.safetensors")
    assert start(train_network.main, **back, output_dir=tmp_path / "back") == 0


@pytest.mark.parametrize(("made_for", "put_onto"), [(4, 9), (9, 4)])
def test_a_lora_of_the_first_convolution_acts_on_the_latents_alone(
    made_for: int, put_onto: int, tiny_v1: Path, tiny_inpainting: Path, tmp_path: Path
) -> None:
    """As it is put onto the model and as it is merged into it: what it does to the four channels that both have stays."""
    down, up = torch.randn(2, made_for, 3, 3), torch.randn(32, 2, 1, 1)
    key, file, merged = "lora_unet_conv_in", tmp_path / "lora.safetensors", tmp_path / "merged.safetensors"
    save_file({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}, file)
    source = tiny_inpainting if put_onto == 9 else tiny_v1
    model = load(source)
    network, _ = create_network_from_weights(1.0, file, model.vae, model.text_encoder, model.unet, for_inference=True)
    network.apply_to(model.text_encoder, model.unet)
    inputs = torch.randn(1, put_onto, 8, 8)
    change = torch.zeros(32, put_onto, 3, 3)
    change[:, :4] = torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)[:, :4]
    expected = torch.nn.functional.conv2d(inputs, model.unet.conv_in.weight + change, model.unet.conv_in.bias, padding=1)
    assert torch.allclose(model.unet.conv_in(inputs), expected, atol=1e-3)
    merge_argv = [
        "--sd_model",
        source,
        "--save_to",
        merged,
        "--models",
        file,
        "--ratios",
        1,
        "--precision",
        "float",
        "--save_precision",
        "float",
    ]
    assert run_in_process(merge_lora.main, *merge_argv) == 0
    assert torch.allclose(load(merged).unet.conv_in.weight, load(source).unet.conv_in.weight + change, atol=1e-5)


def test_images_of_sample_prompts_are_looked_at_before_the_run(
    command, picture: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text(f"a cat --i {tmp_path / 'gone.png'}\na dog --m {picture[1]}\n", encoding="utf-8")
    run_options = command("lora", sample_prompts=tmp_path / "prompts.txt", sample_every_n_steps=1)
    assert start(train_network.main, **run_options, output_dir=tmp_path / "out") == 2
    gone, bare = capsys.readouterr().err.splitlines()
    refusals([gone, bare], ("PATH-001", "gone.png", "--i"), ("CFG-013", picture[1], "add --i"))


def test_a_dry_run_tells_what_a_run_would(command, tiny_v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(train_network.main, **command("lora", masks=True, dry_run=True), output_dir=tmp_path / "out") == 0
    assert "inpainting" in capsys.readouterr().out
    wrong = command("lora", dry_run=True, pretrained_model_name_or_path=tiny_v1)
    assert start(train_network.main, **wrong, output_dir=tmp_path / "out") == 2
    message(capsys.readouterr().out, "--train_inpainting", "4 input channels")
