"""Networks of other packages: which keys they read and which parts break down, both reported with the package's version."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from library.errors import UserError
from library.methods import network_package
from library.methods.network_package import blamed, check_algorithm, check_arguments, keys_read, release, try_layers
from tests.messages import message, refusals, refused

OLD_NAMES = {"old": "new"}


def reads_some(multiplier, dim, alpha, vae, text_encoder, unet, **kwargs):
    first = kwargs.get("first")
    if "fourth" in kwargs:
        first = kwargs["third"]
    return first, kwargs.pop("second", 2)


def renames(multiplier, named=1, **options):
    for key, value in list(options.items()):
        if key in OLD_NAMES:
            options[OLD_NAMES[key]] = value
    return options.get("new")


def hands_on(multiplier, **kwargs):
    return reads_some(multiplier, **kwargs)


def hands_the_table_on(multiplier, **kwargs):
    return dict(kwargs), kwargs.get("first")


def takes_every_item(multiplier, **kwargs):
    return [(key, value) for key, value in kwargs.items()]


def reads_by_variable(multiplier, **kwargs):
    return [kwargs[key] for key in ("a", "b")]


@pytest.mark.parametrize(
    ("function", "keys"),
    [
        (reads_some, {"first", "second", "third", "fourth", *"multiplier dim alpha vae text_encoder unet".split()}),
        (renames, {"multiplier", "named", "old", "new"}),
        (hands_on, None),
        (hands_the_table_on, None),
        (takes_every_item, None),
        (reads_by_variable, None),
        (len, None),
    ],
)
def test_the_keys_that_a_function_reads_are_known_or_known_not_to_be(function: Callable[..., object], keys: set[str] | None) -> None:
    assert keys_read(function) == (None if keys is None else frozenset(keys))


def test_a_slip_is_refused_and_a_key_without_effect_is_told() -> None:
    module = SimpleNamespace(create_network=reads_some)
    (warning,) = check_arguments("mine", module, {"first": "1", "old": "1"})
    message(warning, "--network_args old=1", "mine", "no effect")
    with refused("LORA-007", "--network_args secnd=1", "mine", "second?"):
        check_arguments("mine", module, {"secnd": "1"})
    assert check_arguments("mine", SimpleNamespace(create_network=hands_on), {"anything": "1"}) == []
    assert check_arguments("networks.lora", module, {"anything": "1"}) == []  # our own say it themselves


def test_the_keys_of_lycoris_are_those_of_its_documentation() -> None:
    kohya = pytest.importorskip("lycoris.kohya")
    known = keys_read(kohya.create_network)
    assert known is not None
    documented = (
        "conv_dim conv_alpha dropout rank_dropout module_dropout algo use_tucker use_cp use_conv_cp disable_conv_cp use_scalar preset"
    )
    assert known >= {*documented.split(), *"train_norm block_size constraint rescaled dora_wd factor decompose_both full_matrix".split()}
    name = f"lycoris-lora {version('lycoris-lora')}".replace("_", "-")
    with refused("LORA-007", "--network_args conv_dimm=4", release("lycoris.kohya"), "conv_dim?") as error:
        check_arguments("lycoris.kohya", kohya, {"algo": "loha", "conv_dimm": "4", "preset": "full"})
    assert len(error.value.problems) == 1
    assert release("lycoris.kohya").replace("_", "-") == name
    (warning,) = check_arguments("lycoris.kohya", kohya, {"rank_dropout_scale": "True"})  # a key of its classes that it hands to none
    message(warning, "--network_args rank_dropout_scale=True", "no effect")


@pytest.mark.parametrize(("algo", "hint"), [("ia3", ""), ("lohaa", "loha?"), ("LoKR", None), ("", None)])
def test_an_algorithm_that_the_package_lacks_is_one_line(algo: str, hint: str | None) -> None:
    kohya = pytest.importorskip("lycoris.kohya")
    if hint is None:
        check_algorithm("lycoris.kohya", kohya, {"algo": algo})
        return
    with pytest.raises(UserError) as error:
        check_algorithm("lycoris.kohya", kohya, {"algo": algo})
    names = (release("lycoris.kohya"), f"algo={algo}", hint, "lora, locon, loha", "networks.lora")
    refusals(error.value, ("LORA-011", *names))


class Adapter(nn.Module):
    """Takes a layer over as LyCORIS does; `deletes` the weight that its forward reads."""

    def __init__(self, layer: nn.Module, deletes: bool) -> None:
        super().__init__()
        self.layer, self.own = [layer], layer.forward
        layer.forward = self.forward
        if deletes:
            del layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own(x) + self.layer[0].weight.sum()


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 5, 1, dtype=torch.float16)])
def test_a_layer_that_breaks_down_is_told_before_the_training(layer: nn.Module) -> None:
    part = nn.Sequential(nn.Linear(2, 2), layer)
    try_layers("mine", {}, part)
    Adapter(layer, deletes=False)
    try_layers("mine", {"algo": "full"}, part)
    Adapter(layer, deletes=True)
    with pytest.raises(UserError) as error:
        try_layers("mine", {"algo": "full"}, part)
    refusals(error.value, ("LORA-011", "--network_module mine", "Adapter", "AttributeError", "--network_args algo=full"))
    try_layers("networks.mine", {}, part)  # our own are tested elsewhere


def test_faults_of_our_own_modules_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), blamed("networks.lora", "", ""):
        raise KeyError("x")
    with pytest.raises(MemoryError), blamed("mine", "", ""):
        raise MemoryError
    monkeypatch.setattr(network_package.metadata, "packages_distributions", dict)
    with (
        refused("LORA-011", "--network_module mine", "cannot go", "KeyError: 'x'", "stay"),
        blamed("mine", "cannot go", "stay"),
    ):
        raise KeyError("x")
