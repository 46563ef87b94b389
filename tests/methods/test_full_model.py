"""What train_db.py and fine_tune.py train, from the start and where a run goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from library.methods.full_model import FullModelMethod, FullModelSettings


def attached(**changes: object) -> tuple[FullModelMethod, SimpleNamespace]:
    """The method on a model of one layer a part."""
    model = SimpleNamespace(**{part: nn.Linear(2, 2) for part in ("unet", "text_encoder", "vae")}, source=SimpleNamespace(layout="ckpt"))
    model.text_encoders = (model.text_encoder,)
    method = FullModelMethod(FullModelSettings(**{"learning_rate": 1e-6, **changes}))
    method.attach(model)
    return method, model


def trains(module: nn.Module) -> bool:
    """Whether all of it is trained; it is all or nothing."""
    (wanted,) = {parameter.requires_grad for parameter in module.parameters()}
    return wanted


@pytest.mark.parametrize(
    ("changes", "unet", "text_encoder"),
    [
        ({}, True, True),
        ({"text_encoder_updates": 0}, True, False),
        ({"text_encoder_lr": 0.0}, True, False),
        ({"learning_rate": 0.0, "text_encoder_lr": 1e-6}, False, True),
    ],
)
def test_what_has_a_rate_is_trained_and_nothing_else(changes: dict, unet: bool, text_encoder: bool) -> None:
    method, model = attached(**changes)
    assert (trains(model.unet), trains(model.text_encoder), trains(model.vae)) == (unet, text_encoder, False)
    assert [group["name"] for group in method.param_groups()] == ["unet"] * unet + ["textencoder"] * text_encoder
    assert len(method.modules()) == unet + text_encoder


def test_the_text_encoder_stops_after_its_last_update_and_stays_so_where_a_run_goes_on() -> None:
    method, model = attached(text_encoder_updates=3)
    for step in range(3):
        assert method.trains_text_encoder(step) and trains(model.text_encoder)
        method.after_step(step)
    assert not method.trains_text_encoder(3) and not trains(model.text_encoder)
    for done, still in ((2, True), (3, False), (9, False)):
        method, model = attached(text_encoder_updates=3)
        method.go_on(done)
        assert trains(model.text_encoder) == still and trains(model.unet)
