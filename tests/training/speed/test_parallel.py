"""DDP looks for weights without a gradient only where there can be any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from library.methods.full_model import FullModelMethod, FullModelSettings
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.methods.textual_inversion import TextualInversionMethod, TextualInversionSettings
from library.model.load import load
from library.options.groups.textual_inversion import NewWordChoice
from library.training.speed.parallel import all_are_used


def network(module: str = "networks.lora", train_text_encoder: bool = True, **args: str) -> NetworkMethod:
    parts: dict[str, Any] = {"train_unet": True, "train_text_encoder": train_text_encoder, "unet_lr": None, "text_encoder_lr": None}
    none: dict[str, Any] = {"weights": None, "dim_from_weights": False, "scale_weight_norms": None, "base_weights": []}
    return NetworkMethod(NetworkSettings(module, 2, 1.0, None, args, learning_rate=1e-3, gradient_checkpointing=False, **parts, **none))


CASES = [
    (lambda: network(), None, True),
    (lambda: network(), 2, False),  # the last layer's weights meet nothing
    (lambda: network(train_text_encoder=False), 2, True),
    (lambda: network(rank_dropout="0.3"), None, True),
    (lambda: network(module_dropout="0.3"), None, False),
    (lambda: network("networks.dylora"), None, True),
    (lambda: FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=0)), 2, True),
    (lambda: FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=None)), None, True),
    (lambda: FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=None)), 2, False),
    (lambda: FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=3)), None, False),  # it stops
    (lambda: TextualInversionMethod(TextualInversionSettings([NewWordChoice("zxcv", 2)], 1e-3)), None, False),
]


@pytest.mark.parametrize(("make", "clip_skip", "expected"), CASES)
def test_all_are_used_says_whether_a_pass_gives_every_trained_weight_a_gradient(
    make: Any, clip_skip: int | None, expected: bool, tiny_v1: Any
) -> None:
    import torch

    model, method = load(tiny_v1), make()
    method.attach(model)
    run: Any = SimpleNamespace(
        method=method,
        state=SimpleNamespace(step=0),
        inputs=SimpleNamespace(plan=SimpleNamespace(updates=10)),
        options=SimpleNamespace(model=SimpleNamespace(clip_skip=clip_skip)),
    )
    assert all_are_used(run, model) is expected
    if expected:  # and they are
        model.unet.train()
        ids, _ = model.tokenizer("a cat")
        conditioning = model.encode(ids[None], None, clip_skip)
        model.predict(torch.randn(1, 4, 8, 8), 5, conditioning).square().mean().backward()
        trained = [parameter for group in method.param_groups() for parameter in group["params"]]
        assert trained and all(parameter.grad is not None for parameter in trained if parameter.requires_grad)
