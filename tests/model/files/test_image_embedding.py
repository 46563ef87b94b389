"""Embeddings inside images, as AUTOMATIC1111's web UI writes them; the writer here follows the format and shares no code."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from library.containers.weights_file import open_weights
from library.model.files.embedding_files import read_vectors
from library.model.files.image_embedding import _mask
from tests.messages import refused

VECTORS = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
CONTENT = json.dumps({"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": VECTORS.tolist()}}, "name": "cat", "step": 5})
# The first numbers of the web UI's generator, as its own self-check has them.
NUMBERS = [253, 242, 127, 44, 157, 27, 239, 133, 38, 79, 167, 4, 177, 95, 130, 79, 78, 14, 52, 215, 220, 194, 126, 28, 240, 179]


def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(17, 256, (48, 40, 3), dtype=np.uint8)
    return Image.fromarray(noise | 1)


def in_chunk(path: Path) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(CONTENT.encode()).decode())
    picture().save(path, pnginfo=info)
    return path


def in_pixels(path: Path, **options: object) -> Path:
    """The image between two blocks of noise whose low bits are the data, each behind a black column; a black frame around all."""
    data = zlib.compress(CONTENT.encode())
    height, width = 48, -(-len(data) // (48 * 3))
    data += data[: height * width * 3 - len(data)]  # the web UI fills the rest up with the data's beginning
    state, mask = 0, []
    for _ in range(len(data)):
        state = (state * 1664525 + 1013904223) % 2**32
        mask.append(state % 255 % 16)
    blocks = []
    for half in ([byte % 16 for byte in data], [byte // 16 for byte in data]):
        style = np.random.default_rng(1).integers(1, 16, len(data)) * 16
        blocks.append((np.bitwise_xor(half, mask) + style).astype(np.uint8).reshape(height, width, 3))
    black = np.zeros((height, 1, 3), np.uint8)
    whole = np.concatenate([blocks[0], black, np.asarray(picture()), black, blocks[1]], axis=1)
    Image.fromarray(np.pad(whole, ((2, 2), (3, 3), (0, 0)))).save(path, **options)
    return path


def test_the_generator_is_the_web_uis() -> None:
    assert _mask(len(NUMBERS)).tolist() == [number % 16 for number in NUMBERS]


@pytest.mark.parametrize("name", ["chunk.png", "pixels.png", "pixels.webp", "pixels.pt"])
def test_an_embedding_in_an_image_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "chunk.png":
        in_chunk(path)
    else:
        in_pixels(path, format="WEBP" if name.endswith("webp") else "PNG", **({"lossless": True, "exact": True} if "webp" in name else {}))
    torch.testing.assert_close(read_vectors(path, (), 64, "--weights")[0], VECTORS)
    with refused("LORA-013", "--weights", path, 64, 768):
        read_vectors(path, (), 768, "--weights")


def test_an_image_that_lost_its_embedding_is_named_as_what_it_is(tmp_path: Path) -> None:
    in_pixels(tmp_path / "lossy.webp", format="WEBP", quality=80)
    picture().save(tmp_path / "plain.png")
    picture().save(tmp_path / "plain.jpg")
    Image.open(in_pixels(tmp_path / "whole.png")).resize((60, 30)).save(tmp_path / "small.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    for name in ("lossy.webp", "plain.png", "plain.jpg", "small.png", "cut.png", "black.png"):
        with refused("LORA-012", "--weights", tmp_path / name) as error:
            read_vectors(tmp_path / name, (), 64, "--weights")
        assert "\n" not in str(error.value)
    for name in ("plain.png", "plain.jpg", "lossy.webp"):
        with refused("FILE-004", "--pretrained_model_name_or_path", tmp_path / name, "image"):
            open_weights(tmp_path / name, "--pretrained_model_name_or_path")
