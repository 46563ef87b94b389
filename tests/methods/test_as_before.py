"""What a method calls the model as it was before training predicts exactly as one loaded again, no matter what has been trained since."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from library.method import RemembersBase
from library.methods.full_model import FullModelMethod, FullModelSettings
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.methods.pivotal import NetworkWithWords, PivotalSettings
from library.methods.trained_words import TrainedWords
from library.model.bundle import StableDiffusion
from library.model.load import load
from library.options.groups.textual_inversion import NewWordChoice
from tests.messages import refused

OURS = {
    "lora": ("networks.lora", {"conv_dim": "2"}, 0.3),
    "every dropout": ("networks.lora", {"rank_dropout": "0.3", "module_dropout": "0.3"}, 0.3),
    "pissa": ("networks.lora", {"init": "pissa"}, None),
    "dora": ("networks.dora", {"conv_dim": "2"}, 0.3),
    "dylora": ("networks.dylora", {}, None),
    "lora_fa": ("networks.lora_fa", {}, None),
}
LYCORIS = {
    "loha": {"algo": "loha"},
    "lokr": {"algo": "lokr", "factor": "4"},
    "dora": {"algo": "lora", "dora_wd": "True"},  # at multiplier 0 it gives the sum of both weights
    "glora": {"algo": "glora"},
    "norms": {"algo": "locon", "train_norm": "True"},
    "diag-oft": {"algo": "diag-oft"},
}
SLOW = [pytest.param(kind, marks=[] if kind == "dora" else pytest.mark.slow) for kind in LYCORIS]


def settings(module: str, args: dict[str, str], dropout: float | None = None) -> NetworkSettings:
    return NetworkSettings(
        module=module,
        dim=4,
        alpha=4.0,
        dropout=dropout,
        args=args,
        weights=None,
        dim_from_weights=False,
        train_unet=True,
        train_text_encoder=True,
        learning_rate=1e-3,
        unet_lr=None,
        text_encoder_lr=None,
        scale_weight_norms=None,
        base_weights=(),
        gradient_checkpointing=False,
        keeps_base=True,
    )


def answers(model: StableDiffusion) -> tuple[Tensor, Tensor]:
    """A caption's conditioning, and the prediction under it."""
    ids = model.tokenizer("a photo of a dog")[0].unsqueeze(0)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    conditioning = model.encode(ids)
    return conditioning.context, model.predict(noise, torch.tensor([500]), conditioning)


@torch.no_grad()
def as_if_trained(parameters: list[nn.Parameter]) -> None:
    """Every weight moved, as far as training would."""
    for number, parameter in enumerate(parameters):
        parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))


def check(method: NetworkMethod | FullModelMethod | NetworkWithWords, path: Path) -> None:
    model = load(path)
    method.attach(model)
    assert isinstance(method, RemembersBase)
    for part in (model.unet, *model.text_encoders, *method.modules()):
        part.train()
    as_if_trained([parameter for group in method.param_groups() for parameter in group["params"]])
    fresh = load(path)
    for part in (fresh.unet, *fresh.text_encoders):
        part.eval()
    with torch.no_grad():
        torch.manual_seed(1)
        trained, expected = answers(model), answers(fresh)
        with method.as_before() as base:
            before = answers(base)
        torch.manual_seed(1)
        again = answers(model)
    assert all(torch.equal(one, other) for one, other in zip(before, expected, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(trained, expected, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(trained, again, strict=True))  # the network is on again


@pytest.mark.parametrize("kind", OURS)
def test_a_network_of_ours_taken_off_leaves_the_model_that_was_loaded(kind: str, tiny_v1: Path) -> None:
    check(NetworkMethod(settings(*OURS[kind])), tiny_v1)


@pytest.mark.parametrize("kind", SLOW)
def test_a_network_of_lycoris_taken_off_leaves_the_model_that_was_loaded(kind: str, tiny_v1: Path) -> None:
    pytest.importorskip("lycoris.kohya", reason="lycoris-lora is not installed")
    check(NetworkMethod(settings("lycoris.kohya", LYCORIS[kind])), tiny_v1)


def test_a_network_and_its_new_words_are_what_they_were(tiny_v1: Path) -> None:
    words = TrainedWords((NewWordChoice("my-dog", 2, "dog", None), NewWordChoice("my-cat", 1, None, None)))
    method = NetworkWithWords(NetworkMethod(settings(*OURS["lora"])), words, PivotalSettings(1e-3))
    check(method, tiny_v1)
    model = load(tiny_v1)
    torch.manual_seed(3)
    method = NetworkWithWords(NetworkMethod(settings(*OURS["lora"])), words, PivotalSettings(1e-3))
    method.attach(model)
    ids = model.tokenizer("a photo of my-dog and my-cat")[0].unsqueeze(0)
    began = words.parameter.detach().clone()
    with torch.no_grad(), method.as_before():
        before = model.encode(ids).context
    as_if_trained([parameter for group in method.param_groups() for parameter in group["params"]])
    trained = words.parameter.detach().clone()
    with torch.no_grad(), method.as_before():
        assert torch.equal(words.parameter, began) and torch.equal(model.encode(ids).context, before)
    assert torch.equal(words.parameter, trained) and not torch.equal(trained, began)


@pytest.mark.parametrize("rates", [{}, {"text_encoder_lr": 0.0}], ids=["both", "unet"])
def test_the_copy_of_a_model_that_is_trained_whole_never_moves(rates: dict[str, float], tiny_v1: Path) -> None:
    method = FullModelMethod(FullModelSettings(1e-6, keeps_base=True, **rates))
    if rates:
        model = load(tiny_v1)
        method.attach(model)
        with method.as_before() as base:
            assert base.text_encoder is model.text_encoder and base.unet is not model.unet  # what is not trained needs no copy
        return
    check(method, tiny_v1)


def test_no_copy_is_made_where_nobody_asks_for_it(tiny_v1: Path) -> None:
    method = FullModelMethod(FullModelSettings(1e-6))
    method.attach(load(tiny_v1))
    with pytest.raises(AssertionError), method.as_before():
        pass


def test_a_network_that_exchanges_modules_of_the_model_is_refused(tiny_v1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exchanging(nn.Module):
        def apply_to(self, text_encoder: nn.Module, unet: nn.Module, apply_text_encoder: bool, apply_unet: bool) -> None:
            unet.conv_out = nn.Sequential(unet.conv_out)

    module = ModuleType("exchanging")
    module.create_network = lambda *args, **more: Exchanging()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "exchanging", module)
    with refused("LORA-010", "--prior_from_base", "networks.lora"):
        NetworkMethod(settings("exchanging", {})).attach(load(tiny_v1))
