"""A learning rate of 0 means: not trained, no gradients, no optimizer state; per part and per block, and for every method."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from library.errors import UserError
from library.methods.full_model import FullModelMethod, FullModelSettings
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.model.bundle import StableDiffusion
from library.model.family import V1
from library.model.text.tokenizer import ClipTokenizer
from library.options.groups.scripts import FineTune, TrainDb, TrainNetwork
from library.options.reading.parse import parse
from library.options.rules.check import check
from library.training.optim.optimizer import make_optimizer
from tests.messages import refusals
from tests.networks.models import tiny_text_encoder, tiny_unet


def model() -> StableDiffusion:
    source = SimpleNamespace(layout="original", path=Path("model.safetensors"))
    return StableDiffusion(V1, "epsilon", ClipTokenizer(V1), tiny_text_encoder(), nn.Linear(1, 1), tiny_unet(), source)


def network(module: str = "networks.lora", args: dict[str, str] | None = None, **rates: float | None) -> NetworkMethod:
    rates = {"learning_rate": 1e-2, "unet_lr": None, "text_encoder_lr": None, **rates}
    settings = NetworkSettings(
        module=module,
        dim=2,
        alpha=1.0,
        dropout=None,
        args=args or {},
        weights=None,
        dim_from_weights=False,
        train_unet=True,
        train_text_encoder=True,
        scale_weight_norms=None,
        base_weights=(),
        gradient_checkpointing=False,
        **rates,
    )
    return NetworkMethod(settings)


def update(method, trained: StableDiffusion) -> tuple[dict[int, str], torch.optim.Optimizer, dict[str, torch.Tensor]]:
    """Attach, train one update on U-Net and text encoder as the task does; names of the parameters by id, and how they were before."""
    torch.manual_seed(0)
    method.attach(trained)
    names = {id(parameter): name for module in method.modules() for name, parameter in module.named_parameters()}
    before = {name: parameter.detach().clone() for module in method.modules() for name, parameter in module.named_parameters()}
    optimizer = make_optimizer("AdamW", method.param_groups(), 1e-2).optimizer
    for _ in range(2):  # LoRA's down moves only when up is no longer 0
        with torch.set_grad_enabled(method.trains_text_encoder(0)):
            context = trained.text_encoder(torch.arange(20).view(2, 10)).last_hidden_state
        answer = trained.unet(torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), context).sample
        answer.square().mean().backward()
        optimizer.step()
    return names, optimizer, before


@pytest.mark.parametrize(
    ("rates", "args", "trained"),
    [
        ({"unet_lr": 0.0}, {}, lambda name: name.startswith("lora_te_")),
        ({"text_encoder_lr": 0.0}, {}, lambda name: name.startswith("lora_unet_")),
        ({"learning_rate": 0.0, "unet_lr": 1e-2}, {}, lambda name: name.startswith("lora_unet_")),
        (
            {},
            {"down_lr_weight": "zeros", "mid_lr_weight": "0"},
            lambda name: name.startswith("lora_te_") or "_up_blocks_" in name,
        ),
    ],
    ids=["unet 0", "text encoder 0", "default 0", "blocks 0"],
)
def test_what_has_rate_0_costs_a_network_nothing(rates, args, trained) -> None:
    method = network(args=args, **rates)
    names, optimizer, before = update(method, model())
    assert any(trained(name) for name in names.values())
    state = {names[id(parameter)] for parameter in optimizer.state}
    assert state == {name for name in names.values() if trained(name) and "alpha" not in name}
    for name, parameter in method.modules()[0].named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert (parameter.grad is not None) == parameter.requires_grad == moved == trained(name), name
    assert all(group["lr"] > 0 for group in optimizer.param_groups)


def test_a_text_encoder_of_rate_0_is_run_without_a_graph() -> None:
    assert not network(text_encoder_lr=0.0).trains_text_encoder(0)
    assert not network(learning_rate=0.0, unet_lr=1e-2).trains_text_encoder(0)
    assert network(learning_rate=0.0, text_encoder_lr=1e-2).trains_text_encoder(0)


def test_another_packages_groups_of_rate_0_get_no_optimizer_state(monkeypatch) -> None:
    """LyCORIS and others may hand over groups with rate 0."""
    from networks import lora

    def groups(self, text_encoder_lr, unet_lr, default_lr):
        parts = {"textencoder": text_encoder_lr, "unet": unet_lr}
        prefix = {"textencoder": "lora_te", "unet": "lora_unet"}
        return [{"params": [p for k in self.layers(prefix[n]).values() for p in k.parameters()], "lr": r} for n, r in parts.items()]

    monkeypatch.setattr(lora.LoRANetwork, "prepare_optimizer_params", groups)
    method = network(unet_lr=0.0, text_encoder_lr=1e-2)
    names, optimizer, _ = update(method, model())
    assert optimizer.state and all(names[id(parameter)].startswith("lora_te_") for parameter in optimizer.state)


@pytest.mark.parametrize(("rate", "text_encoder", "parts"), [(1e-3, 0.0, {"unet"}), (0.0, 1e-3, {"textencoder"}), (1e-3, 1e-4, None)])
def test_what_has_rate_0_costs_a_full_model_nothing(rate, text_encoder, parts) -> None:
    method = FullModelMethod(FullModelSettings(rate, None, text_encoder))
    whole = model()
    _, optimizer, _ = update(method, whole)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {name: value for name, value in (("unet", rate), ("textencoder", text_encoder)) if value}
    for part, module in (("unet", whole.unet), ("textencoder", whole.text_encoder)):
        wanted = parts is None or part in parts
        has_gradient = [parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad]
        assert bool(has_gradient) == wanted
        assert sum(id(p) in {id(q) for q in optimizer.state} for p in module.parameters()) == (sum(has_gradient) if wanted else 0)


@pytest.mark.parametrize(
    ("script", "words", "option"),
    [
        (TrainNetwork, "--network_module networks.lora --learning_rate 0", "--learning_rate:"),
        (TrainNetwork, "--network_module networks.lora --unet_lr 0 --text_encoder_lr 0", "--unet_lr:"),
        (TrainNetwork, "--network_module networks.lora --unet_lr 0 --network_train_unet_only", "--unet_lr:"),
        (TrainNetwork, "--network_module networks.lora --learning_rate 0 --unet_lr 1e-4", None),
        (TrainDb, "--learning_rate 0", "--learning_rate:"),
        (TrainDb, "--learning_rate 0 --learning_rate_te 1e-6", None),
        (TrainDb, "--learning_rate 0 --learning_rate_te 1e-6 --stop_text_encoder_training 10", "--stop_text_encoder_training:"),
        (FineTune, "--learning_rate 0 --learning_rate_te 1e-6", "--learning_rate:"),
        (FineTune, "--learning_rate 0 --learning_rate_te 1e-6 --train_text_encoder", None),
    ],
)
def test_rates_that_leave_nothing_are_refused_before_anything_is_loaded(script, words, option, tmp_path) -> None:
    model_file, config = tmp_path / "model.safetensors", tmp_path / "data.toml"
    model_file.touch()
    config.touch()
    common = ["--pretrained_model_name_or_path", model_file, "--dataset_config", config, "--output_dir", tmp_path / "out"]
    options = parse(script, [str(word) for word in (*common, *words.split())])
    if option is None:
        check(options)
        return
    with pytest.raises(UserError) as error:
        check(options)
    refusals(error.value, ("OPT-012", option))
