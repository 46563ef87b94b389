"""A further family of models is one more value: a made-up one trains, is sampled and validated, and not a line of the library is of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import train_network
from library.model.bundle import StableDiffusion
from library.model.diffusers_folder import save_diffusers
from library.model.files.facts import inspect
from library.model.load import Storage, load_folder
from library.model.text.tokenizer import END
from tests.model.made_up_family import MADE_UP, WIDTHS, made_up_model
from tests.scripts.running import run_in_process

Train = Callable[..., Path]


@pytest.fixture
def model(tiny_v1: Path) -> StableDiffusion:
    return made_up_model(tiny_v1)


@pytest.fixture
def photo(tmp_path: Path) -> tuple[int, int]:
    """A captioned photograph of 160 × 80 pixels, which a square shows the middle of."""
    (tmp_path / "photos").mkdir()
    Image.effect_noise((160, 80), 60).convert("RGB").save(tmp_path / "photos" / "cat.png")
    (tmp_path / "photos" / "cat.caption").write_text("a cat", encoding="utf-8")
    return 160, 80


@pytest.fixture
def train(model: StableDiffusion, photo: tuple[int, int], tiny_v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """train_network.py over two updates, with `model` in the place of what it would load."""
    monkeypatch.setattr("library.training.model_setup.load", lambda *args, **settings: model)
    config = tmp_path / "data.toml"
    subset = f"[[datasets.subsets]]\nimage_dir = '{tmp_path / 'photos'}'\nnum_repeats = 2\n"
    config.write_text(f"[[datasets]]\nresolution = 64\nbatch_size = 2\n{subset}", encoding="utf-8")

    def run(*changes: object) -> Path:
        fixed = ["--pretrained_model_name_or_path", tiny_v1, "--dataset_config", config, "--output_dir", tmp_path / "out"]
        more = ["--network_module", "networks.lora", "--network_dim", 2, "--learning_rate", "1e-2", "--max_train_steps", 2, "--seed", 7]
        assert run_in_process(train_network.main, *fixed, *more, "--output_name", "cat", *changes) == 0
        return tmp_path / "out" / "cat.safetensors"

    return run


def heard_by(unet: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    """What the U-Net is called with from now on: its arguments by name."""
    calls: list[dict[str, torch.Tensor]] = []

    def note(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, dict[str, torch.Tensor]]) -> None:
        noisy, _, context = args
        calls.append({"noisy": noisy.detach(), "context": context.detach(), **kwargs["added_cond_kwargs"]})

    unet.register_forward_pre_hook(note, with_kwargs=True)
    return calls


def test_lora_trains_on_both_text_encoders_and_the_unet_under_the_familys_names(train: Train) -> None:
    file = train("--cache_latents")
    moved = {name: bool(tensor.any()) for name, tensor in load_file(file).items() if name.endswith("lora_up.weight")}
    by_prefix = {prefix: [name for name in moved if name.startswith(prefix)] for prefix in ("lora_left_", "lora_right_", "lora_net_")}
    assert sum(map(len, by_prefix.values())) == len(moved)
    assert "lora_left_encoder_layers_0_self_attn_q_proj.lora_up.weight" in by_prefix["lora_left_"]
    assert "lora_net_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight" in by_prefix["lora_net_"]
    # of the left encoder only the layer before the last is read; the right one's last layer reaches the pooled embedding
    still = [name for name, has_moved in moved.items() if not has_moved]
    assert all(name.startswith("lora_left_encoder_layers_1_") for name in still) and len(still) == 6, still
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert (told["ss_base_model_version"], told["modelspec.architecture"]) == ("made_up_base_v", "made-up-velocity/lora")


@pytest.mark.parametrize("kept", ["on", "off"])
def test_the_unet_is_told_of_context_pooled_embedding_and_sizes(train: Train, model: StableDiffusion, kept: str) -> None:
    calls = heard_by(model.unet)
    train("--network_train_unet_only", "--cache_text_encoder_outputs", kept)
    ids = model.tokenizer("a cat")[0]
    with torch.no_grad():  # by hand: windows of one are joined to themselves
        left = model.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        again = ids.clone()
        again[0, int((ids[0] == END).int().argmax()) + 1 :] = 0
        right = model.further_text_encoders[0](again, output_hidden_states=True)
    assert len(calls) == 2
    for call in calls:
        torch.testing.assert_close(call["context"], torch.cat([left, right.hidden_states[-2]], dim=-1).expand(2, -1, -1))
        torch.testing.assert_close(call["text_embeds"], right.pooler_output.expand(2, -1))
        # 80 × 160 is scaled to 64 × 128, of which a square 64 begins 32 pixels from the left
        assert call["time_ids"].tolist() == [[80, 160, 0, 32, 64, 64]] * 2


def test_samples_and_validation_take_it_as_it_is(train: Train, model: StableDiffusion, tmp_path: Path) -> None:
    (tmp_path / "photos" / "dog.caption").write_text("a dog", encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("a dog --w 72 --h 64 --s 2 --d 1", encoding="utf-8")
    Image.effect_noise((80, 80), 60).convert("RGB").save(tmp_path / "photos" / "dog.png")
    calls = heard_by(model.unet)
    sampled = ["--sample_prompts", tmp_path / "prompts.txt", "--sample_every_n_steps", 2]
    train(*sampled, "--validation_split", "0.5", "--validate_every_n_steps", 2)
    drawn = [call for call in calls if call["noisy"].shape[-2:] == (8, 9)]
    assert len(drawn) == 2 and all(call["time_ids"].tolist() == [[64, 72, 0, 0, 64, 72]] * 2 for call in drawn)
    assert all(call["context"].shape == (2, 77, sum(WIDTHS)) and call["text_embeds"].shape == (2, WIDTHS[1]) for call in drawn)
    assert len(list((tmp_path / "out" / "sample").glob("*.png"))) == 1
    validated = [call for call in calls if len(call["noisy"]) == 1]
    assert validated and all(len(call["time_ids"]) == len(call["text_embeds"]) == 1 for call in validated)


def test_a_lora_of_both_text_encoders_is_gone_on_with(train: Train) -> None:
    before = load_file(train())
    after = load_file(train("--network_weights", train(), "--dim_from_weights", "--learning_rate", "1e-30", "--output_name", "cat"))
    for prefix in ("lora_left_", "lora_right_", "lora_net_"):
        mine = [name for name in before if name.startswith(prefix)]
        assert mine and all(torch.allclose(after[name], before[name], atol=1e-12) for name in mine)


def test_a_diffusers_folder_holds_and_gives_back_both_text_encoders(model: StableDiffusion, tiny_v1: Path, tmp_path: Path) -> None:
    save_diffusers(model, tmp_path / "folder")
    index = json.loads((tmp_path / "folder" / "model_index.json").read_text(encoding="utf-8"))
    assert index["text_encoder_2"] == ["transformers", "CLIPTextModel"] and index["tokenizer_2"] == ["transformers", "CLIPTokenizer"]
    configs = [tmp_path / "folder" / name / "tokenizer_config.json" for name in ("tokenizer", "tokenizer_2")]
    assert [json.loads(file.read_text(encoding="utf-8"))["pad_token"] for file in configs] == ["<|endoftext|>", "!"]
    facts = replace(inspect(tiny_v1), path=tmp_path / "folder", layout="diffusers", family=MADE_UP)
    parts = load_folder(facts, Storage(torch.float32, torch.float32), with_vae=True)
    assert parts.keys() == {"unet", "vae", "text_encoder", "text_encoder_2"}
    for part, network in model.parts.items():
        saved = parts[part].state_dict()
        assert saved.keys() == network.state_dict().keys()
        assert all(saved[name].equal(tensor) for name, tensor in network.state_dict().items()), part
    ids = model.tokenizer("a cat")[0]
    second = parts["text_encoder_2"](ids).last_hidden_state
    assert second.shape[-1] == WIDTHS[1] and second.equal(model.text_encoders[1](ids).last_hidden_state)
