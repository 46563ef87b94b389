"""--optimizer_args: read as values, handed to the optimizer, or refused with what it takes."""

import re
from typing import ClassVar

import pytest
import torch

from library.errors import UserError
from library.options.reading.named_class import parse_arguments
from library.training.optim.optimizer import make_optimizer
from tests.messages import message, refusal
from tests.training.optim.toys import Toy, problems_of


def test_arguments_are_read_as_python_values():
    items = ["betas=.9,.999", "weight_decay=1e-2", "decouple=True", "safeguard=false", "beta3=None", "kind=1-sqrt"]
    values = [(0.9, 0.999), 0.01, True, False, None, "1-sqrt"]
    assert list(parse_arguments("--optimizer_args", items).values()) == values
    assert parse_arguments("--optimizer_args", None) == {}


def test_all_unreadable_arguments_are_told_together_and_none_is_run():
    items = ["betas", "eps=1..5", "x=__import__('os').getcwd()", "=3", "a b=1", "eps=[1", "lr=1", "lr=2"]
    with pytest.raises(UserError) as fault:
        parse_arguments("--optimizer_args", items)
    assert [re.findall(r"'(.*?)'", problem)[0] for problem in fault.value.problems][:2] == ["betas", "eps=1..5"]
    assert len(fault.value.problems) == 7


def test_arguments_reach_the_optimizer():
    group = make_optimizer("AdamW", Toy().groups(), 1e-3, ["betas=.8,.99", "weight_decay=0.5"]).optimizer.param_groups[1]
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.99), 0.5, 1e-3)


def test_unknown_arguments_are_refused_with_what_is_accepted():
    said = problems_of("Prodigy", ["weight_decy=0.1", "lr=1"])
    line = refusal(said, "OPT-011", "--optimizer_args weight_decy", "Prodigy", "weight_decay?", "beta3, betas, d0, d_coef")
    refusal(said, "OPT-011", "--optimizer_args lr", "--learning_rate")
    assert "self" not in line.partition("it takes:")[2].split(", ")


@pytest.mark.parametrize(
    ("name", "args", "names"),
    [
        ("AdamW", ["betas=2,3"], ("AdamW: Invalid beta",)),
        ("AdamW", ["betas=0.9"], ("AdamW",)),
        ("Lion", ["betas=2,3"], ("Lion",)),
        ("AdamW", ["betas=0.9,0.99,0.9"], ("betas", "AdamW expects 2 numbers, such as 0.9,0.999")),
        ("AdamW", ["weight_decay=nan"], ("weight_decay=nan", 0.01)),
        ("AdamW", ["amsgrad=2"], ("amsgrad=2", "True or False")),
        ("AdamW", ["amsgrad=yes"], ("amsgrad=yes", "True or False")),
        ("AdaFactor", ["eps=1"], ("eps=1", "2 numbers, such as 1e-30,0.001")),
        ("SGDNesterov", ["nesterov=False"], ("SGDNesterov", "nesterov=True")),
        ("SGDNesterov", ["momentum=0"], ("SGD: Nesterov momentum requires a momentum",)),
    ],
)
def test_what_the_optimizer_refuses_is_told_in_one_line(name, args, names):
    refusal(problems_of(name, args), "OPT-011", *names)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("AdamW", ["capturable=True"]),  # on a CPU
        ("AdamW", ["differentiable=True"]),
        ("AdamW", ["eps=0"]),  # 0/0 where a gradient is 0
        ("AdaFactor", ["clip_threshold=0"]),
        ("Prodigy", ["slice_p=0"]),
    ],
)
def test_what_fails_at_the_first_step_is_refused_before_the_run(name, args):
    line = refusal(problems_of(name, args), "OPT-011", args[0], "first step")
    assert "leaf" not in line and "slice step" not in line


def test_a_first_step_is_tried_on_copies():
    toy = Toy()
    before = [parameter.clone() for parameter in toy.parameters()]
    optimizer = make_optimizer("Prodigy", toy.groups(1.0, 0.0), 1.0, ["weight_decay=0.1"]).optimizer
    assert all(bool((one == other).all()) for one, other in zip(before, toy.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in toy.parameters()) and not optimizer.state


def test_lion_without_triton_is_refused_instead_of_ending_the_process(monkeypatch):
    monkeypatch.setattr("library.training.optim.optimizer._installed", lambda module: False)
    refusal(problems_of("Lion", ["use_triton=True"]), "PKG-001", "triton")


@pytest.mark.parametrize("name", ["SGDNesterov", "SGDNesterov8bit"])
def test_momentum_is_added_to_sgd_and_told_unless_it_is_given(name):
    built = make_optimizer(name, Toy().groups(), 1e-3)
    assert len(built.notes) == 1
    message(built.notes, name, "momentum=0.9", "--optimizer_args momentum=…")
    group = built.optimizer.param_groups[0]
    assert group.get("momentum", group.get("betas", (None,))[0]) == 0.9  # bitsandbytes keeps it as its first beta
    assert name == "SGDNesterov8bit" or group["nesterov"]
    built = make_optimizer(name, Toy().groups(), 1e-3, ["momentum=0.5"])
    assert built.notes == ()
    group = built.optimizer.param_groups[0]
    assert group.get("momentum", group.get("betas", (None,))[0]) == 0.5


def test_a_number_that_stands_for_a_switch_is_taken_where_the_class_takes_it():
    """As sd-scripts does: front-ends write 0 and 1."""
    assert make_optimizer("Prodigy", Toy().groups(), 1.0, ["decouple=1", "safeguard_warmup=0"]).optimizer.param_groups[0]["decouple"] == 1
    assert make_optimizer("AdaFactor", Toy().groups(), 1e-3, ["relative_step=0", "warmup_init=0"]).optimizer.param_groups[0]["lr"] == 1e-3


class WhereItSteps(torch.optim.SGD):
    """Notes the device of what it updates."""

    seen: ClassVar[list[str]] = []

    def step(self, closure=None):
        self.seen.append(self.param_groups[0]["params"][0].device.type)


def test_the_first_step_is_tried_on_the_device_of_the_run():
    """`capturable=True`, and whole optimizers, work on a GPU only; the parameters of the check before the run are on the CPU."""
    with pytest.raises(UserError):  # a device without numbers: what it would have computed is not known
        make_optimizer(f"{__name__}.WhereItSteps", Toy().groups(), 1e-3, ["momentum=0.9"], device=torch.device("meta"))
    assert WhereItSteps.seen == ["meta"]
