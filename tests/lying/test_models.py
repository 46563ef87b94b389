"""Indices, tensors, layers and embeddings that no model has are reported by all that load them."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.containers.weights_file import open_weights
from library.errors import UserError
from tests.lying.data_files import chunk, png
from tests.lying.modules import KEY, write_lora
from tests.lying.readers import (
    read_embedding,
    read_model,
    read_vae,
    told,
    tool,
)
from tests.messages import refusal


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors",
        "/etc/passwd",
        "..",
        "",
        "sub/a.safetensors",
        "sub\\a.safetensors",
        "C:a.safetensors",
        "\0",
        "\ud800",
        3,
        None,
        ["a"],
    ],
)
def test_an_index_that_names_what_is_not_beside_it_is_told(name: object, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file({"a": torch.ones(2)}, place / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refusal(told(lambda path: open_weights(path, "--x"), index, str(name)), "MODEL-016", "--x", "next to it", "download")


def test_an_index_that_names_itself_or_a_missing_file_or_tensor_is_told(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    for table in ({"a": index.name}, {"a": "c.safetensors"}, {"x": "b.safetensors"}, [], 3, {"a": 1}):
        index.write_text(json.dumps({"weight_map": table}))
        told(lambda path: open_weights(path, "--x"), index, str(table))
    for text in ('{"weight_map":' + "[" * 10_000, '{"weight_map":{"a":' + "9" * 5000 + "}}", "[]", "", "{}"):
        index.write_text(text)
        told(lambda path: open_weights(path, "--x"), index, text[:40])


def test_a_model_of_impossible_tensors_is_refused_by_its_header(tiny_v1: Path, tiny_v2: Path, tmp_path: Path) -> None:
    """What the look before a run lets pass, loading does not stumble over."""
    unet, vae = "model.diffusion_model.", "first_stage_model.decoder."
    fused = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    cases: list[tuple[Path, str, torch.Tensor]] = [
        (tiny_v1, f"{unet}input_blocks.0.0.weight", torch.tensor(1.0)),
        (tiny_v1, f"{unet}input_blocks.0.0.weight", torch.ones(4)),
        (tiny_v1, f"{unet}input_blocks.1.0.in_layers.2.weight", torch.ones(0, 4, 3, 3)),
        (tiny_v1, f"{unet}input_blocks.1.0.in_layers.2.weight", torch.ones(4, dtype=torch.int8)),
        (tiny_v1, f"{unet}time_embed.0.weight", torch.ones(4, 4, dtype=torch.bool)),
        (tiny_v1, f"{vae}mid.attn_1.q.weight", torch.ones(4, 4, 3, 3)),
        (tiny_v2, fused, torch.tensor(1.0)),
        (tiny_v2, fused, torch.ones(7, 4)),
    ]
    for source, name, tensor in cases:
        tensors = load_file(source)
        assert name in tensors, name
        save_file(tensors | {name: tensor}, tmp_path / "x.safetensors")
        assert name in told(read_model, tmp_path / "x.safetensors", name)


@pytest.mark.parametrize("number", [10**8, "9" * 5000])
def test_blocks_of_numbers_that_no_model_has_take_no_time(number: object, tiny_v1: Path, tmp_path: Path) -> None:
    """They are unexpected in the model: it is loaded without them, or refused."""
    from library.model.load import load

    unet, tensors = "model.diffusion_model.", load_file(tiny_v1)
    for name in (f"{unet}input_blocks.{number}.0.in_layers.2.weight", f"first_stage_model.decoder.up.{number}.block.0.conv1.weight"):
        save_file(tensors | {name: torch.ones(1, 1, 1, 1)}, tmp_path / "x.safetensors")
        begun = time.process_time()
        with contextlib.suppress(UserError):
            load(tmp_path / "x.safetensors")
        assert time.process_time() - begun < 60


def test_a_layer_that_cannot_be_built_is_told_by_all_that_load(tiny_v1: Path, tmp_path: Path) -> None:
    from library.model.load import load

    for name in ("first_stage_model.encoder.down.0.block.0.conv1.weight", "model.diffusion_model.input_blocks.1.1.proj_in.weight"):
        for tensor in (torch.ones(1), torch.ones(3, 3)):
            save_file(load_file(tiny_v1) | {name: tensor}, tmp_path / "x.safetensors")
            told(load, tmp_path / "x.safetensors", f"{name} {tensor.shape}")
            if "first_stage" in name:
                told(read_vae, tmp_path / "x.safetensors", name)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(0, 64),
        torch.ones(2, 0),
        torch.full((2, 64), float("nan")),
        torch.ones(2, 64, dtype=torch.int32),
        torch.tensor(1.0),
        torch.ones(1, 1, 64),
    ],
)
def test_an_embedding_that_is_none_is_told(tensor: torch.Tensor, tmp_path: Path) -> None:
    save_file({"emb_params": tensor}, tmp_path / "x.safetensors")
    told(read_embedding, tmp_path / "x.safetensors", str(tensor.shape))


def test_an_embedding_of_other_counts_for_each_layer_is_told(tmp_path: Path) -> None:
    from library.model.files.embedding_files import read_vectors

    save_file({"MID": torch.ones(2, 64), "IN01": torch.ones(3, 64)}, tmp_path / "x.safetensors")
    told(lambda path: read_vectors(path, ("IN01", "MID"), 64, "--weights"), tmp_path / "x.safetensors", "counts")


def test_an_image_with_an_embedding_is_no_bomb(tmp_path: Path) -> None:
    for content in (
        png(100_000, 100_000),
        png(9000, 9000),
        png(64, 64, chunks=chunk(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(b"[" * 100_000))),
        png(64, 64, chunks=chunk(b"zTXt", b"sd-ti-embedding\0\0" + zlib.compress(bytes(100 << 20)))),
    ):
        (tmp_path / "x.png").write_bytes(content)
        refusal(told(read_embedding, tmp_path / "x.png", str(len(content))), "LORA-012", tmp_path / "x.png")


def test_a_bias_of_another_size_than_the_models_is_told(tiny_v1: Path, tmp_path: Path) -> None:
    from library.surgery.checkpoint import open_checkpoint

    shape = open_checkpoint(str(tiny_v1), "--sd_model", False).weights[KEY].shape
    down, up = torch.ones(4, *shape[1:]), torch.ones(shape[0], 4, *(1,) * len(shape[2:]))
    path = write_lora(tmp_path / "x.safetensors", down=down, up=up, diff_b=torch.ones(3))
    merge = tool("networks.merge_lora", "--sd_model", str(tiny_v1), "--models", "FILE", "--save_to", "TARGET")
    refusal(told(merge, path, "bias"), "TOOL-006", path, KEY, "bias")
