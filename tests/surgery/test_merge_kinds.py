"""Networks of other kinds than LoRA merged into a model, each held against the program that defines it: PEFT, Diffusers, LyCORIS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from library.model.load import load
from networks import dora, merge_lora, resize_lora
from networks.check_lora_weights import main as check
from tests.messages import refusal
from tests.networks.models import randomize
from tests.scripts.running import run_in_process

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "mid_block.resnets.0.conv1"
NORM, GROUP_NORM = "mid_block.attentions.0.transformer_blocks.0.norm1", "mid_block.resnets.0.norm1"
TEXT_NORM = "encoder.layers.1.layer_norm1"
RATIO = 0.6


def merged(model: Path, tmp_path: Path, tensors, *options: object, metadata=None, folder: bool = False):
    """The model with a network file of these tensors merged in."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "n.safetensors", metadata)
    target = tmp_path / ("merged" if folder else "merged.safetensors")
    arguments = ("--sd_model", model, "--models", tmp_path / "n.safetensors", "--save_to", target)
    assert run_in_process(merge_lora.main, *arguments, *options) == 0
    return load(target, v2="--v2" in options)


def key(path: str) -> str:
    return "lora_unet_" + path.replace(".", "_")


def weight(model, path: str) -> torch.Tensor:
    return model.unet.get_submodule(path).weight.detach()


def test_a_dora_of_peft_is_merged_as_peft_merges_it(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    config = LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=["to_q", "conv1"], alpha_pattern={"conv1": 3})
    model = get_peft_model(load(tiny_v1).unet, config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += torch.randn_like(parameter) * 0.2
    state = get_peft_model_state_dict(model)
    assert any("lora_magnitude_vector" in name for name in state)
    settings = '{"r": 4, "lora_alpha": 2, "use_dora": true, "alpha_pattern": {"conv1": 3}}'
    ours = merged(tiny_v1, tmp_path, state, metadata={"lora_adapter_metadata": settings})
    theirs = model.merge_and_unload()
    for path in (LINEAR, CONV):
        torch.testing.assert_close(weight(ours, path), theirs.get_submodule(path).weight, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(weight(ours, path), weight(load(tiny_v1), path), atol=1e-2)
    capsys.readouterr()
    assert run_in_process(check, tmp_path / "n.safetensors") == 0 and "DoRA for" in capsys.readouterr().out
    arguments = ("--model", tmp_path / "n.safetensors", "--new_rank", 2, "--save_to", tmp_path / "r.safetensors")
    assert run_in_process(resize_lora.main, *arguments) == 2
    refusal(capsys.readouterr().err, "LORA-001", "DoRA", "networks/merge_lora.py --sd_model")


@pytest.mark.parametrize("on_output", ["True", "False"])
def test_a_dora_of_networks_dora_is_merged_as_it_was_trained_checked_and_not_cut(
    on_output: str, tiny_v1: Path, tmp_path: Path, capsys
) -> None:
    model = load(tiny_v1)
    network = dora.create_network(1.0, 4, 2.0, None, None, model.unet, conv_dim="2", wd_on_output=on_output)
    randomize(network, deviation=0.2)
    ours = merged(tiny_v1, tmp_path, {name: tensor.detach() for name, tensor in network.file_weights().items()})
    with torch.no_grad():
        for path in (LINEAR, CONV):
            expected = weight(model, path) + network.layers()[key(path)].delta_weight()
            torch.testing.assert_close(weight(ours, path), expected, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    assert run_in_process(check, tmp_path / "n.safetensors") == 0 and "networks.dora" in capsys.readouterr().out
    arguments = ("--model", tmp_path / "n.safetensors", "--new_rank", 2, "--save_to", tmp_path / "r.safetensors")
    assert run_in_process(resize_lora.main, *arguments) == 2 and "are DoRA" in capsys.readouterr().err


def lycoris_module(kind: str, layer: torch.nn.Module, **options: object) -> torch.nn.Module:
    import lycoris.modules as modules

    names = {"lora": "LoConModule", "ia3": "IA3Module", "norm": "NormModule", "loha": "LohaModule"}
    module = getattr(modules, names[kind])(
        "x", layer, 1.0, lora_dim=2, alpha=2 if kind == "loha" else 1, **options
    )  # its LoHa scales twice
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return module


CASES = {
    "dora along the outputs": ("lora", (LINEAR, CONV), {"weight_decompose": True, "wd_on_out": True}),
    "dora along the inputs": ("lora", (LINEAR, CONV), {"weight_decompose": True, "wd_on_out": False}),
    "dora of a loha": ("loha", (LINEAR,), {"weight_decompose": True, "wd_on_out": True}),
    "ia3 along the outputs": ("ia3", (LINEAR, CONV), {}),
    "ia3 along the inputs": ("ia3", (LINEAR, CONV), {"train_on_input": True}),
    "norms": ("norm", (NORM, GROUP_NORM), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_lycoris_adds_is_merged_at_the_ratio(name: str, tiny_v1: Path, tmp_path: Path) -> None:
    pytest.importorskip("lycoris.modules")
    kind, paths, options = CASES[name]
    model, tensors, expected = load(tiny_v1), {}, {}
    for path in paths:
        layer = model.unet.get_submodule(path)
        module = lycoris_module(kind, layer, **options)
        state = module.custom_state_dict() if hasattr(module, "custom_state_dict") else None
        state = state if state is not None else module.state_dict()
        tensors |= {f"{key(path)}.{part}": value.detach().clone() for part, value in state.items()}
        whole, bias = module.get_merged_weight(multiplier=1.0)
        before = (layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone())
        pairs = zip(before, (whole, bias), strict=True)
        expected[path] = [old if new is None else old + RATIO * (new.detach() - old) for old, new in pairs if old is not None]
    ours = merged(tiny_v1, tmp_path, tensors, "--ratios", RATIO)
    for path, wanted in expected.items():
        merged_layer = ours.unet.get_submodule(path)
        for value, tensor in zip(wanted, (merged_layer.weight, merged_layer.bias), strict=False):
            torch.testing.assert_close(tensor.detach(), value.reshape(tensor.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("version", "folder"), [("v1", False), ("v2", False), ("v1", True)])
def test_norms_and_biases_of_the_text_encoder_find_their_place(
    version: str, folder: bool, tiny_v1: Path, tiny_v2: Path, tmp_path: Path, capsys
) -> None:
    model = {"v1": tiny_v1, "v2": tiny_v2}[version]
    before = load(model, v2=version == "v2").text_encoder
    norm, layer = before.get_submodule(TEXT_NORM), before.encoder.layers[1].self_attn.k_proj
    head = "lora_te_text_model_encoder_layers_1_"
    tensors = {
        f"{head}layer_norm1.w_norm": torch.full_like(norm.weight, 0.5),
        f"{head}layer_norm1.b_norm": torch.full_like(norm.bias, 0.25),
        f"{head}self_attn_k_proj.diff": torch.full_like(layer.weight, 0.5),
        f"{head}self_attn_k_proj.diff_b": torch.full_like(layer.bias, -0.5),
    }
    flags = ["--v2"] if version == "v2" else []
    after = merged(model, tmp_path, tensors, "--verbose", *flags, folder=folder).text_encoder
    merged_layer = after.encoder.layers[1]
    torch.testing.assert_close(merged_layer.layer_norm1.weight, norm.weight + 0.5)
    torch.testing.assert_close(merged_layer.layer_norm1.bias, norm.bias + 0.25)
    torch.testing.assert_close(merged_layer.self_attn.k_proj.weight, layer.weight + 0.5)
    torch.testing.assert_close(merged_layer.self_attn.k_proj.bias, layer.bias - 0.5)
    assert merged_layer.self_attn.q_proj.bias.equal(before.encoder.layers[1].self_attn.q_proj.bias)
    output = capsys.readouterr().out
    assert "receipt: 2 modules" in output and f"{head}layer_norm1 (bias)" in output


def test_peft_adapters_with_biases_are_merged(tiny_v1: Path, tmp_path: Path) -> None:
    model = get_peft_model(load(tiny_v1).unet, LoraConfig(r=2, lora_alpha=6, lora_bias=True, target_modules=["to_out.0"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ours = merged(tiny_v1, tmp_path, get_peft_model_state_dict(model), metadata={"lora_adapter_metadata": '{"r": 2, "lora_alpha": 6}'})
    theirs, path = model.merge_and_unload(), "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    for kind in ("weight", "bias"):
        pair = [getattr(unet.get_submodule(path), kind) for unet in (ours.unet, theirs)]
        torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_merged_names_its_kind(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    def line(**tensors: torch.Tensor) -> str:
        save_file({f"{key(LINEAR)}.{name.replace('__', '.')}": value for name, value in tensors.items()}, tmp_path / "n.safetensors")
        arguments = ("--sd_model", tiny_v1, "--models", tmp_path / "n.safetensors", "--save_to", tmp_path / "m.safetensors")
        assert run_in_process(merge_lora.main, *arguments) == 2 and not (tmp_path / "m.safetensors").exists()
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    refusal(line(oft_blocks=torch.randn(2, 4, 4)), "LORA-001", "OFT or BOFT")
    refusal(line(a1__weight=torch.randn(2, 4)), "LORA-001", "GLoRA")
    refusal(line(diff=torch.zeros(32, 32), diff_b=torch.zeros(32)), "TOOL-006", "bias")
    refusal(line(weight=torch.zeros(5), on_input=torch.tensor(0)), "TOOL-006", "weight of")
