"""gen_img.py with the file of a training draws the very pictures that the training drew as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gen_img
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from tests.scripts.running import run_in_process
from tests.scripts.starting import dataset, start

SMALL_MODEL = Path(__file__).parents[2] / "examples" / "small_model" / "small_sd.safetensors"
SAMPLERS = (
    "ddim",
    "euler_a",
    "dpmsolver++",
    "heun",
    "pndm",
)  # one that draws noise in its steps, one of two passes a step, a multistep one
LORA = {"network_module": "networks.lora", "network_dim": 2, "learning_rate": 0.05}
WORD = {"token_string": "zxq", "init_word": "star", "num_vectors_per_token": 2, "learning_rate": 0.5, "use_object_template": True}
KINDS: dict[str, tuple[object, dict[str, object], str]] = {
    "LoRA": (train_network.main, LORA, "--network_weights"),
    "LoRA with convolutions, clip skip": (
        train_network.main, LORA | {"network_args": ["conv_dim=2"], "clip_skip": 2}, "--network_weights"),
    "DoRA": (train_network.main, LORA | {"network_module": "networks.dora", "network_args": ["wd_on_output=False"]}, "--network_weights"),
    "PiSSA": (train_network.main, LORA | {"network_args": ["init=pissa"]}, "--network_weights"),
    "LoHa of LyCORIS": (
        train_network.main,
        LORA | {"network_module": "lycoris.kohya", "network_alpha": 2, "network_args": ["algo=loha", "conv_dim=2", "conv_alpha=2"]},
        "--network_weights",
    ),
    "LoKr of LyCORIS": (
        train_network.main, LORA | {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "factor=4"]}, "--network_weights"),
    "Textual Inversion": (train_textual_inversion.main, WORD, "--textual_inversion_embeddings"),
    "XTI": (train_textual_inversion_XTI.main, WORD, "--XTI_embeddings"),
}  # fmt: skip


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.int16)


def prompts(path: Path, samplers: tuple[str, ...] = SAMPLERS, size: str = "--w 64 --h 64 --s 2") -> Path:
    lines = [
        f"a (zxq:1.2) on a red [background], {'with words, ' * 30 * (place == 1)} --n blue {size} --l 3 --d {place} --ss {sampler}"
        for place, sampler in enumerate(samplers)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(main: object, options: dict[str, object], model: Path, images: Path, folder: Path) -> Path:
    """The file that a training leaves; the samples of its last step are in `folder`."""
    common = {
        "pretrained_model_name_or_path": model,
        "dataset_config": dataset(folder / "data.toml", images, batch_size=1),
        "output_dir": folder,
        "output_name": "made-file",
        "save_model_as": "safetensors",
        "max_train_steps": 2,
        "optimizer_type": "SGD",
        "max_data_loader_n_workers": 0,
        "seed": 1,
        "sample_every_n_steps": 2,
    }
    assert callable(main)
    assert start(main, **common, **options) == 0
    return folder / "made-file.safetensors"


def samples(folder: Path) -> list[Path]:
    return sorted((folder / "sample").glob("*_000002_*.png"), key=lambda path: path.name.split("_")[-3])


@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_are_those_of_the_training_bit_for_bit(kind: str, photos: Path, tmp_path: Path) -> None:
    main, options, option = KINDS[kind]
    if "LyCORIS" in kind:
        pytest.importorskip("lycoris.kohya")
    texts = prompts(tmp_path / "prompts.txt")
    made = trained(main, options | {"sample_prompts": texts}, SMALL_MODEL, photos, tmp_path)
    skip = ["--clip_skip", 2] if "clip_skip" in options else []
    out = tmp_path / "drawn"
    argv = ("--ckpt", SMALL_MODEL, "--from_file", texts, "--outdir", out, "--sequential_file_name", option, made, *skip)
    assert run_in_process(gen_img.main, *argv) == 0
    drawn = [pixels(path) for path in sorted(out.iterdir())]
    there = samples(tmp_path)
    assert len(drawn) == len(there) == len(SAMPLERS)
    assert [np.abs(one - other).max() for one, other in zip(drawn, map(pixels, there), strict=True)] == [0] * len(SAMPLERS)
    plain = tmp_path / "plain"
    first = texts.read_text(encoding="utf-8").splitlines()[0]
    assert run_in_process(gen_img.main, "--ckpt", SMALL_MODEL, "--prompt", first, "--outdir", plain, *skip) == 0
    assert (pixels(next(plain.iterdir())) != drawn[0]).any()  # what was trained shows


def test_in_bf16_and_with_a_model_of_the_second_family_they_are_too(tiny_v2: Path, photos: Path, tmp_path: Path) -> None:
    texts = prompts(tmp_path / "prompts.txt", ("k_euler", "lms"))
    flags = {"v2": True, "v_parameterization": True, "mixed_precision": "bf16", "sample_prompts": texts}
    made = trained(train_network.main, LORA | flags, tiny_v2, photos, tmp_path)
    flags = ("--v2", "--v_parameterization", "--bf16", "--sequential_file_name")
    argv = ("--ckpt", tiny_v2, "--from_file", texts, "--outdir", tmp_path / "drawn", "--network_weights", made, *flags)
    assert run_in_process(gen_img.main, *argv) == 0
    drawn = [pixels(path) for path in sorted((tmp_path / "drawn").iterdir())]
    assert all((one == pixels(path)).all() for one, path in zip(drawn, samples(tmp_path), strict=True))
