"""LoRA files of Diffusers and PEFT, in every form of their names and settings: they act as in Diffusers' own loader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from library.lora.files import group_by_module, read_weights
from library.lora.layers import delta_weight
from library.surgery.network_file import open_network
from networks.lora import create_network, create_network_from_weights
from tests.messages import refused
from tests.networks.models import randomize, tiny_text_encoder, tiny_unet

TARGETS = ["to_q", "to_out.0", "proj_in", "conv1"]
TEXT_TARGETS = ["q_proj", "fc1"]
SETTINGS = {
    "alpha": {"r": 4, "lora_alpha": 2},
    "patterns": {
        "r": 4,
        "lora_alpha": 2,
        "rank_pattern": {"proj_in": 2, r"down_blocks\..*to_q": 3},
        "alpha_pattern": {"attn2.to_q": 5, "conv1": 1},
    },
    "rslora": {"r": 4, "lora_alpha": 3, "use_rslora": True, "rank_pattern": {"to_q": 2}},
    "alpha above the rank": {"r": 2, "lora_alpha": 16},
}


def adapted(**settings):
    """(text encoder, U-Net) with random adapters of PEFT."""
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    pair = (LoraConfig(target_modules=TEXT_TARGETS, **settings), LoraConfig(target_modules=TARGETS, **settings))
    for model, config in zip((text_encoder, unet), pair, strict=True):
        model.add_adapter(config)
        generator = torch.Generator().manual_seed(3)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return text_encoder, unet


def saved_by_diffusers(folder: Path, **settings) -> Path:
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers

    text_encoder, unet = adapted(**settings)
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),  # Diffusers cannot read its older names together with convolutions
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(text_encoder)),
        **_collate_lora_metadata({"unet": unet, "text_encoder": text_encoder}),
    )
    return folder / "pytorch_lora_weights.safetensors"


def merged_by_diffusers(file: Path) -> dict[str, torch.Tensor]:
    """What Diffusers' loader adds to each weight, by our key of the module."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    pipeline = StableDiffusionPipeline(None, text_encoder, None, unet, scheduler, None, None, requires_safety_checker=False)
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    pipeline.fuse_lora()
    changes = {}
    for prefix, before, model in (("lora_te_text_model_", tiny_text_encoder(), text_encoder), ("lora_unet_", tiny_unet(), unet)):
        old = before.state_dict()
        for name, value in model.state_dict().items():
            if name.endswith(".base_layer.weight"):
                path = name.removesuffix(".base_layer.weight")
                changes[prefix + path.replace(".", "_")] = value - old[f"{path}.weight"]
    return changes


def deltas(weights) -> dict[str, torch.Tensor]:
    return {key: delta_weight(module.down, module.up, module.alpha / module.rank) for key, module in group_by_module(weights, "x").items()}


def assert_same(actual, expected) -> None:
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key].reshape(value.shape), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_with_diffusers_settings_is_as_strong_as_in_diffusers(name: str, tmp_path: Path) -> None:
    file = saved_by_diffusers(tmp_path, **SETTINGS[name])
    expected = merged_by_diffusers(file)
    assert len(expected) > 10 and any(key.startswith("lora_te_") for key in expected)
    assert_same(deltas(read_weights(file)), expected)
    network = open_network(file, "--models")
    assert_same({key: delta_weight(m.down, m.up, m.alpha / m.rank) for key in network.modules for m in [network.lora(key)]}, expected)
    adapters, weights = create_network_from_weights(1.0, file, None, tiny_text_encoder(), tiny_unet(), for_inference=True)
    assert_same({key: layer.delta_weight() for key, layer in adapters.layers().items()}, expected)
    merged = (tiny_text_encoder(), tiny_unet())
    adapters.merge_to(*merged, weights)
    place = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    change = merged[1].get_submodule(place).weight - tiny_unet().get_submodule(place).weight
    torch.testing.assert_close(change, expected["lora_unet_" + place.replace(".", "_")], rtol=1e-4, atol=1e-5)


def test_a_file_of_a_part_alone_has_its_settings_without_a_prefix(tmp_path: Path) -> None:
    _, unet = adapted(r=4, lora_alpha=2)
    unet.save_lora_adapter(tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    other = tiny_unet()
    other.load_lora_adapter(file.parent, weight_name=file.name, prefix=None)
    other.fuse_lora()
    place = "mid_block.attentions.0.proj_in"
    change = other.get_submodule(place).get_base_layer().weight - tiny_unet().get_submodule(place).weight
    torch.testing.assert_close(deltas(read_weights(file))["lora_unet_mid_block_attentions_0_proj_in"], change, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("safe", [True, False])
def test_pefts_own_folder_is_read_with_the_settings_beside_the_file(safe: bool, tmp_path: Path) -> None:
    config = LoraConfig(target_modules=["to_q"], r=4, lora_alpha=2, alpha_pattern={"attn2.to_q": 8})
    model = get_peft_model(tiny_unet(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path, safe_serialization=True)
    file = tmp_path / "adapter_model.safetensors"
    if not safe:  # as older versions wrote it
        torch.save(load_file(file), tmp_path / "adapter_model.bin")
        file.unlink()
        file = tmp_path / "adapter_model.bin"
    before = tiny_unet()
    merged = model.merge_and_unload()
    actual = deltas(read_weights(file))
    for kind in ("attn1", "attn2"):
        place = f"mid_block.attentions.0.transformer_blocks.0.{kind}.to_q"
        change = merged.get_submodule(place).weight - before.get_submodule(place).weight
        torch.testing.assert_close(actual["lora_unet_" + place.replace(".", "_")], change, rtol=1e-4, atol=1e-5)


PATH, TEXT = "mid_block.attentions.0.transformer_blocks.0.attn1", "text_model.encoder.layers.1.self_attn"
OUT, TEXT_OUT = f"{PATH}.to_out.0", f"{TEXT}.out_proj"
KEYS = ("lora_unet_" + OUT.replace(".", "_"), "lora_te_text_model_encoder_layers_1_self_attn_out_proj")
PEFT, SIDE = "lora_{AB}.weight", "{side}.weight"
NAMES = {
    "PEFT": (f"unet.{OUT}.{PEFT}", f"text_encoder.{TEXT_OUT}.{PEFT}"),
    "PEFT with its adapter": (f"unet.{OUT}.lora_{{AB}}.default.weight", f"text_encoder.{TEXT_OUT}.lora_{{AB}}.my-style.weight"),
    "PEFT's own": (f"base_model.model.{OUT}.{PEFT}", f"base_model.model.{TEXT_OUT}.{PEFT}"),
    "PEFT's own with parts": (f"base_model.model.unet.{OUT}.{PEFT}", f"text_encoder.base_model.model.{TEXT_OUT}.{PEFT}"),
    "today's text encoder": (f"{OUT}.{PEFT}", f"base_model.model.encoder.layers.1.self_attn.out_proj.{PEFT}"),
    "Diffusers": (f"unet.{OUT}.lora.{SIDE}", f"text_encoder.{TEXT_OUT}.lora_linear_layer.{SIDE}"),
    "processors": (f"unet.{PATH}.processor.to_out_lora.{SIDE}", f"text_encoder.{TEXT}.to_out_lora.{SIDE}"),
    "processors without a part": (f"{PATH}.processor.to_out_lora.{SIDE}", f"{TEXT}.to_out_lora.{SIDE}"),
    "twice the part": (f"unet.unet.{OUT}.lora.{SIDE}", f"text_encoder.{TEXT_OUT}.lora_linear_layer.{SIDE}"),
    "keys of web UIs": (f"{KEYS[0]}.{PEFT}", f"{KEYS[1]}.lora_{SIDE}"),
}


def in_names(names: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A file's tensors under these names, and the same LoRA under ours."""
    network = create_network(1.0, 2, 2, None, tiny_text_encoder(), tiny_unet())
    randomize(network)
    ours = {name: value for name, value in network.state_dict().items() if name.startswith(KEYS)}
    theirs = {}
    for key, name in zip(KEYS, names, strict=True):
        for side, letter in (("down", "A"), ("up", "B")):
            theirs[name.format(AB=letter, side=side)] = ours[f"{key}.lora_{side}.weight"].contiguous()
    return theirs, ours


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("container", ["safetensors", "bin", "pt under state_dict"])
def test_every_form_of_names_is_read_by_tools_and_training_alike(form: str, container: str, tmp_path: Path) -> None:
    theirs, ours = in_names(NAMES[form])
    path = tmp_path / f"x.{container.split()[0]}"
    if container == "safetensors":
        save_file(theirs, path)
    else:
        torch.save({"state_dict": theirs, "epoch": 3} if "under" in container else theirs, path)
    expected = deltas(ours)
    assert_same(deltas(read_weights(path)), expected)
    network = open_network(path, "--models")
    assert_same({key: delta_weight(m.down, m.up, m.alpha / m.rank) for key in network.modules for m in [network.lora(key)]}, expected)
    training = create_network(1.0, 2, 1, None, tiny_text_encoder(), tiny_unet())
    assert "2 of" in training.load_weights(path)
    assert_same({key: training.layers()[key].delta_weight() for key in expected}, expected)
    adapters, _ = create_network_from_weights(1.0, None, None, tiny_text_encoder(), tiny_unet(), theirs)
    assert_same({key: layer.delta_weight() for key, layer in adapters.layers().items()}, expected)


def test_an_embedding_bundled_with_a_lora_is_no_part_of_the_lora(tmp_path: Path, heard) -> None:
    theirs, ours = in_names(NAMES["keys of web UIs"])
    bundled = {"bundle_emb.my-cat.string_to_param.*": torch.randn(2, 16), "bundle_emb.my-cat.emb_params": torch.randn(2, 16)}
    save_file(theirs | bundled, tmp_path / "x.safetensors")
    assert_same(deltas(read_weights(tmp_path / "x.safetensors")), deltas(ours))
    assert "my-cat" not in heard.text  # whoever reads the file says what becomes of it
    assert len(open_network(tmp_path / "x.safetensors", "--models").modules) == 2
    save_file(bundled, tmp_path / "alone.safetensors")
    with refused("LORA-001", tmp_path / "alone.safetensors"):
        open_network(tmp_path / "alone.safetensors", "--models")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ("{", ("lora_adapter_metadata", "JSON")),
        ("[1]", ("lora_adapter_metadata", "table")),
        (json.dumps({"unet.r": 2, "unet.lora_alpha": "two"}), ("'two'", "lora_alpha")),
        (json.dumps({"unet.r": 2, "unet.lora_alpha": 2, "unet.use_dora": True}), ("use_dora", "lora_unet_", "magnitude")),
        (json.dumps({"unet.r": 2, "unet.init_lora_weights": "pissa_niter_4"}), ("init_lora_weights", "'pissa_niter_4'")),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_a_line(settings: str, names: tuple[str, ...], tmp_path: Path) -> None:
    save_file(in_names(NAMES["PEFT"])[0], tmp_path / "x.safetensors", {"lora_adapter_metadata": settings})
    code = "LORA-002" if "use_dora" in settings else "LORA-006"
    for read in (read_weights, lambda path: open_network(path, "--models")):
        with refused(code, tmp_path / "x.safetensors", *names) as error:
            read(tmp_path / "x.safetensors")
        assert "\n" not in str(error.value)
