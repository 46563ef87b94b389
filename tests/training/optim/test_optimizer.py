"""Every optimizer that can be named: built, stepped, saved and restored, or refused with the reason."""

import copy
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.errors import UserError
from library.options.groups.optimizer import OptimizerOptions
from library.options.groups.training import TrainingOptions
from library.options.reading.named_class import parse_arguments
from library.training import assemble
from library.training.optim.optimizer import logged_rates, make_optimizer, weights_to_keep
from library.training.optim.optimizer_table import OPTIMIZERS, markdown, resolve_name
from tests.messages import message, refusal, refused

FINDS_ITS_RATE = [row.name for row in OPTIMIZERS if row.kind == "factor"]
SPEC_NAMES = """
    AdamW AdamW8bit PagedAdamW8bit Lion Lion8bit PagedLion8bit SGDNesterov SGDNesterov8bit DAdaptation DAdaptAdamPreprint DAdaptAdam
    DAdaptAdaGrad DAdaptAdan DAdaptAdanIP DAdaptLion DAdaptSGD Prodigy AdaFactor
    """.split()


OTHER_NAMES = ("RMSprop", "adam", "torch.optim.NAdam", "schedulefree.AdamWScheduleFree", "bitsandbytes.optim.LAMB")


class Toy(torch.nn.Module):
    """Two layers, one large enough (4,800 values) for 8-bit state; a squared error that any optimizer can lower."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.first = torch.nn.Parameter(torch.randn(80, 60, generator=generator) / 8)
        self.second = torch.nn.Parameter(torch.randn(60, 3, generator=generator) / 8)

    def loss(self, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 + step)
        inputs = torch.randn(16, 80, generator=generator).to(self.first.dtype)
        return (torch.tanh(inputs @ self.first) @ self.second - inputs[:, :3]).square().mean()

    def groups(self, first: float | None = None, second: float | None = None) -> list[dict]:
        rates = ((self.first, first), (self.second, second))
        return [{"params": [parameter], **({} if rate is None else {"lr": rate})} for parameter, rate in rates]


def take_steps(toy: Toy, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        loss = toy.loss(step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def restored(state: dict) -> dict:
    """What a saved state is when it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def problems_of(name: str, args: list[str], toy: Toy | None = None, **rates: float) -> str:
    with pytest.raises(UserError) as error:
        make_optimizer(name, (toy or Toy()).groups(**rates), 1e-3, args)
    assert all("\n" not in problem for problem in error.value.problems)
    return "\n".join(error.value.lines)


# ---- names


def test_the_table_has_the_names_that_users_know():
    assert [row.name for row in OPTIMIZERS] == SPEC_NAMES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SPEC_NAMES, *OTHER_NAMES])
def test_each_optimizer_takes_five_steps_and_goes_on_from_its_saved_state_bit_for_bit(name):
    factor = name in FINDS_ITS_RATE
    rate = 1.0 if factor else 1e-3
    toy = Toy()
    built = make_optimizer(name.upper() if name in SPEC_NAMES else name, toy.groups(), rate)
    before = [parameter.clone() for parameter in toy.parameters()]
    take_steps(toy, built.optimizer, range(5))
    assert all(parameter.isfinite().all() for parameter in toy.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, toy.parameters(), strict=True))
    again = Toy()
    again.load_state_dict(copy.deepcopy(toy.state_dict()))
    other = make_optimizer(name, again.groups(), rate)
    other.optimizer.load_state_dict(restored(built.optimizer.state_dict()))
    assert take_steps(toy, built.optimizer, range(5, 10)) == take_steps(again, other.optimizer, range(5, 10))
    assert all(torch.equal(one, two) for one, two in zip(toy.parameters(), again.parameters(), strict=True))
    assert logged_rates(built.optimizer, ["unet", "text_encoder"]) == logged_rates(other.optimizer, ["unet", "text_encoder"])


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("AdamW8bits", ("OPT-013", "AdamW8bit?")),
        ("Prodgy", ("OPT-013", "Prodigy?")),
        ("RMSProb", ("OPT-013", "RMSprop?")),
        ("torch.optim.AdaW", ("PKG-004", "AdamW?")),
        ("nothing_like_it.Adam", ("PKG-001", "nothing_like_it")),
        ("torch.nn.Linear", ("OPT-013",)),
        ("LBFGS", ("OPT-016", "several times")),
        ("SparseAdam", ("OPT-016", "sparse gradients")),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(name, asked):
    refusal(problems_of(name, []), *asked, f"--optimizer_type {name}")


@pytest.mark.parametrize(
    ("name", "module", "remedy"),
    [
        ("AdamW8bit", "bitsandbytes.optim", "pip install -c constraints.txt bitsandbytes"),
        ("Lion", "lion_pytorch", "pip install -c constraints.txt lion-pytorch"),
        ("DAdaptAdam", "dadaptation", "pip install -c constraints.txt dadaptation"),
        ("Prodigy", "prodigyopt", "pip install -c constraints.txt prodigyopt"),
    ],
)
def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch, name, module, remedy):
    def missing(wanted: str) -> None:
        raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted.partition(".")[0])

    monkeypatch.setattr("library.options.reading.named_class.importlib.import_module", missing)
    refusal(problems_of(name, []), "PKG-001", f"--optimizer_type {name}", module, remedy)


def test_a_package_that_does_not_load_is_told_with_its_reason(monkeypatch):
    def broken(wanted: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr("library.options.reading.named_class.importlib.import_module", broken)
    refusal(problems_of("AdamW8bit", []), "PKG-002", "--optimizer_type AdamW8bit", "libcudart.so.13")


def test_old_options_mean_their_optimizers_and_contradictions_are_refused():
    assert resolve_name("") == resolve_name(None) == "AdamW"
    assert resolve_name("prodigy") == "prodigy"
    assert resolve_name("", use_8bit_adam=True) == resolve_name("adamw8bit", use_8bit_adam=True) == "AdamW8bit"
    assert resolve_name("", use_lion_optimizer=True) == "Lion"
    with refused("OPT-008", "--use_8bit_adam", "AdamW8bit", "--optimizer_type Lion"):
        resolve_name("Lion", use_8bit_adam=True)
    with refused("OPT-008", "--use_8bit_adam and --use_lion_optimizer"):
        resolve_name("", use_8bit_adam=True, use_lion_optimizer=True)


def test_building_an_optimizer_imports_no_other_optimizer_package():
    import subprocess

    code = (
        "import sys, torch\nfrom library.training.optim.optimizer import make_optimizer\n"
        "make_optimizer('AdamW', [{'params': [torch.zeros(2, requires_grad=True)]}], 1e-3)\n"
        "print([m for m in ('bitsandbytes', 'transformers', 'prodigyopt', 'dadaptation', 'lion_pytorch') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True)
    assert ended.stdout.strip() == "[]"


# ---- arguments


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
        ("SGDNesterov", ["nesterov=False"], ("SGDNesterov", "nesterov=True")),
        ("SGDNesterov", ["momentum=0"], ("SGD: Nesterov momentum requires a momentum",)),
    ],
)
def test_what_the_optimizer_refuses_is_told_in_one_line(name, args, names):
    refusal(problems_of(name, args), "OPT-011", *names)


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


# ---- rates


def test_adamw_is_fused_and_equals_torchs_own_within_rounding():
    ours, theirs = Toy(), Toy()
    built = make_optimizer("AdamW", ours.groups(second=5e-4), 1e-3)
    assert built.optimizer.param_groups[0]["fused"]
    reference = torch.optim.AdamW([{"params": [theirs.first], "lr": 1e-3}, {"params": [theirs.second], "lr": 5e-4}], foreach=False)
    assert take_steps(ours, built.optimizer, range(20)) == pytest.approx(take_steps(theirs, reference, range(20)), rel=1e-5)
    torch.testing.assert_close(ours.first, theirs.first, rtol=1e-4, atol=1e-6)
    assert not make_optimizer("AdamW", Toy().groups(), 1e-3, fused=False).optimizer.param_groups[0].get("fused")
    assert make_optimizer("AdamW", Toy().groups(), 1e-3, ["foreach=True"]).optimizer.param_groups[0]["foreach"]


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_kernels_that_hide_an_overflow_from_the_scaler_are_not_used_with_it(precision):
    run = SimpleNamespace(
        options=SimpleNamespace(optimizer=OptimizerOptions(), training=TrainingOptions(mixed_precision=precision)),
        inputs=SimpleNamespace(plan=SimpleNamespace(updates=10, warmup=0)),
        state=SimpleNamespace(seed=1),
    )
    built, _ = assemble._optimizer(run, [{"params": [torch.nn.Parameter(torch.ones(2))]}])
    assert bool(built.optimizer.defaults["fused"]) == (precision != "fp16")


def test_rates_are_logged_by_group():
    built = make_optimizer("AdamW", Toy().groups(first=1e-3, second=5e-5), 7.0)
    assert logged_rates(built.optimizer, ["unet", "text_encoder"]) == {"lr/unet": 1e-3, "lr/text_encoder": 5e-5}
    assert built.warnings == ()


@pytest.mark.parametrize("name", FINDS_ITS_RATE)
def test_a_rate_other_than_one_is_warned_of_where_it_is_a_factor(name):
    assert make_optimizer(name, Toy().groups(), 1.0).warnings == ()
    (warning,) = make_optimizer(name, Toy().groups(), 1e-4).warnings
    assert "1.0 is expected, not 0.0001" in warning


def test_found_rate_times_factor_is_logged():
    toy = Toy()
    built = make_optimizer("Prodigy", toy.groups(), 1.0, ["d_coef=2"])
    take_steps(toy, built.optimizer, range(20))
    rates = logged_rates(built.optimizer, ["unet", "te"])
    assert rates["lr/unet"] == 1.0
    assert rates["lr/d*lr/unet"] == rates["lr/d*lr/te"] == built.optimizer.param_groups[0]["d"] > 1e-6


@pytest.mark.parametrize("name", [name for name in FINDS_ITS_RATE if name not in ("DAdaptAdaGrad", "DAdaptSGD")])
def test_a_part_with_half_the_factor_moves_half_as_far(name):
    """The guide: --text_encoder_lr=0.5 --unet_lr=1.0. In the first update the rate found does not depend on the shares yet."""
    whole, half = Toy().double(), Toy().double()
    start = [whole.first.detach().clone(), whole.second.detach().clone()]
    built = make_optimizer(name, half.groups(first=1.0, second=0.5), 1.0)
    message(built.notes[:1], "0.5, 1")
    take_steps(whole, make_optimizer(name, whole.groups(), 1.0).optimizer, range(1))
    take_steps(half, built.optimizer, range(1))
    torch.testing.assert_close(half.first, whole.first, rtol=0, atol=0)
    torch.testing.assert_close(half.second - start[1], (whole.second - start[1]) / 2, rtol=1e-6, atol=0)
    take_steps(half, built.optimizer, range(1, 30))
    rates = logged_rates(built.optimizer, ["unet", "te"])
    assert (rates["lr/unet"], rates["lr/te"]) == (1.0, 0.5)
    assert rates["lr/d*lr/te"] == rates["lr/d*lr/unet"] / 2


def test_shares_survive_saving_and_restoring():
    toy, again = Toy(), Toy()
    built = make_optimizer("Prodigy", toy.groups(first=1.0, second=0.5), 1.0)
    take_steps(toy, built.optimizer, range(5))
    again.load_state_dict(copy.deepcopy(toy.state_dict()))
    other = make_optimizer("Prodigy", again.groups(first=1.0, second=0.5), 1.0)
    other.optimizer.load_state_dict(restored(built.optimizer.state_dict()))
    assert take_steps(toy, built.optimizer, range(5, 9)) == take_steps(again, other.optimizer, range(5, 9))


def test_a_frozen_part_stays_frozen():
    toy = Toy()
    before = toy.second.detach().clone()
    built = make_optimizer("Prodigy", toy.groups(first=1.0, second=0.0), 1.0)
    take_steps(toy, built.optimizer, range(40))
    assert built.warnings == ()
    assert logged_rates(built.optimizer, ["unet", "te"])["lr/te"] == 0.0
    assert not torch.equal(toy.first, Toy().first)
    # the library moves frozen groups by their momentum, which stays 0
    torch.testing.assert_close(toy.second, before)
    alone = Toy()  # and the rate is the same without it
    take_steps(alone, make_optimizer("Prodigy", alone.groups(first=1.0, second=0.0)[:1], 1.0).optimizer, range(40))
    torch.testing.assert_close(toy.first, alone.first, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["DAdaptAdaGrad", "DAdaptSGD"])
def test_optimizers_of_one_rate_refuse_two(name):
    refusal(problems_of(name, [], first=1.0, second=0.5), "OPT-016", name, "0.5, 1")


def test_adafactor_finds_its_own_rate_unless_told_otherwise():
    built = make_optimizer("adafactor", Toy().groups(first=1e-3), 1e-4)
    assert (built.kind, built.schedule) == ("relative", "adafactor")
    assert [group["lr"] for group in built.optimizer.param_groups] == [None, None]
    assert "relative_step=True is added" in built.notes[0]
    message(built.notes[1:2], "rates", "ignored")
    built = make_optimizer("AdaFactor", Toy().groups(first=1e-3), 1e-4, ["relative_step=False"])
    assert (built.kind, built.schedule) == ("plain", None)
    assert [group["lr"] for group in built.optimizer.param_groups] == [1e-3, 1e-4]
    message(built.notes[:1], "--lr_scheduler constant_with_warmup", "--max_grad_norm 0")
    built = make_optimizer("AdaFactor", Toy().groups(), 1e-4, ["relative_step=False", "warmup_init=True"])
    assert built.kind == "relative"
    assert built.optimizer.param_groups[0]["relative_step"]


def test_an_optimizer_named_by_its_module_gets_the_same_care_as_in_the_table():
    assert make_optimizer("prodigyopt.Prodigy", Toy().groups(), 1e-4).warnings
    assert make_optimizer("transformers.optimization.Adafactor", Toy().groups(), 1e-4).schedule == "adafactor"
    assert make_optimizer("torch.optim.Adafactor", Toy().groups(), 1e-4).schedule is None


def test_schedule_free_weights_are_swapped_in_for_keeping_and_back():
    toy = Toy()
    built = make_optimizer("schedulefree.AdamWScheduleFree", toy.groups(), 1e-2)
    take_steps(toy, built.optimizer, range(5))
    training = toy.first.detach().clone()
    with weights_to_keep(built.optimizer):
        assert not torch.allclose(toy.first, training)
    torch.testing.assert_close(toy.first.detach(), training)
    take_steps(toy, built.optimizer, range(5, 6))
    plain = make_optimizer("AdamW", toy.groups(), 1e-3).optimizer
    averaged = toy.first.detach().clone()
    with weights_to_keep(plain):
        assert torch.equal(toy.first, averaged)


# ---- docs


def test_docs_show_the_table_as_it_is():
    page = Path(__file__).parents[3] / "docs" / "optimizers.md"
    assert markdown() in page.read_text(encoding="utf-8"), "put optimizer_table.markdown() into docs/optimizers.md"
