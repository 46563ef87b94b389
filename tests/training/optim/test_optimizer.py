"""Every optimizer that can be named: built, stepped, saved and restored, or refused with the reason."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.options.groups.optimizer import OptimizerOptions
from library.options.groups.training import TrainingOptions
from library.training import assemble
from library.training.optim.optimizer import logged_rates, make_optimizer, weights_to_keep
from library.training.optim.optimizer_table import OPTIMIZERS, markdown, resolve_name
from tests.messages import refusal, refused
from tests.training.optim.toys import FINDS_ITS_RATE, Toy, problems_of, restored, take_steps

SPEC_NAMES = """
    AdamW AdamW8bit PagedAdamW8bit Lion Lion8bit PagedLion8bit SGDNesterov SGDNesterov8bit DAdaptation DAdaptAdamPreprint DAdaptAdam
    DAdaptAdaGrad DAdaptAdan DAdaptAdanIP DAdaptLion DAdaptSGD Prodigy AdaFactor
    """.split()
OTHER_NAMES = ("RMSprop", "adam", "torch.optim.NAdam", "schedulefree.AdamWScheduleFree", "bitsandbytes.optim.LAMB")


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


@pytest.mark.parametrize(
    ("name", "place", "package"),
    [("prodigy", "prodigyopt.Prodigy", "prodigyopt"), ("PagedLion8bit", "bitsandbytes.optim.PagedLion8bit", "bitsandbytes")],
)
def test_a_package_of_another_version_without_the_class_is_told_with_the_command_for_the_tested_one(monkeypatch, name, place, package):
    monkeypatch.delattr(place)
    class_name, command = place.rpartition(".")[2], f"pip install -c constraints.txt {package}"
    refusal(problems_of(name, []), "PKG-003", f"--optimizer_type {class_name}", f"has no {class_name}", command)


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


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_kernels_that_hide_an_overflow_from_the_scaler_are_not_used_with_it(precision):
    run = SimpleNamespace(
        options=SimpleNamespace(optimizer=OptimizerOptions(), training=TrainingOptions(mixed_precision=precision)),
        inputs=SimpleNamespace(plan=SimpleNamespace(updates=10, warmup=0)),
        state=SimpleNamespace(seed=1),
        device=torch.device("cpu"),
    )
    built, _ = assemble._optimizer(run, [{"params": [torch.nn.Parameter(torch.ones(2))]}])
    assert bool(built.optimizer.defaults["fused"]) == (precision != "fp16")


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


def test_docs_show_the_table_as_it_is():
    page = Path(__file__).parents[3] / "docs" / "optimizers.md"
    assert markdown() in page.read_text(encoding="utf-8"), "put optimizer_table.markdown() into docs/optimizers.md"
