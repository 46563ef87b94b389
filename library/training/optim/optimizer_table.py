"""The optimizers that --optimizer_type knows by name, one row each, and which one a command line selects; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from library.errors import UserError, coded
from library.options.groups.optimizer import OptimizerOptions
from library.packages import install_command

Kind = Literal["plain", "factor", "relative"]
"""What a learning rate means: the rate itself | a factor of the rate that the optimizer finds | nothing, the optimizer has its own."""


@dataclass(frozen=True)
class OptimizerRow:
    """`fixed` arguments make the optimizer what its name says; `defaults` are added, with a note, when the user left them out."""

    name: str
    module: str
    class_name: str
    package: str
    kind: Kind = "plain"
    fixed: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    one_rate: bool = False  # cannot train groups of parameters at different rates
    divides_by_first_rate: bool = False  # which is 0 in a warm-up
    splits: bool = False  # can find a rate for each part of the model: split_groups=True in --optimizer_args
    state_bytes: float = 8  # of its state per trained value, in large parameters
    small_state_bytes: float | None = None  # the same in parameters of fewer than `SMALL` values, if it differs
    note: str = ""


def _row(name: str, module: str, class_name: str, package: str, **rest: Any) -> OptimizerRow:
    return OptimizerRow(name, module, class_name, package, **rest)


_BNB = ("bitsandbytes.optim", "bitsandbytes")
SMALL = 4096  # values; bitsandbytes keeps the state of smaller parameters in 32 bits (`min_8bit_size`)
_NESTEROV: dict[str, Any] = {"fixed": {"nesterov": True}, "defaults": {"momentum": 0.9}}
_D: dict[str, Any] = {"package": "dadaptation", "kind": "factor", "state_bytes": 12}

OPTIMIZERS: tuple[OptimizerRow, ...] = (
    _row("AdamW", "torch.optim", "AdamW", "torch", note="the default; fused if the device supports it"),
    _row(
        "AdamW8bit", _BNB[0], "AdamW8bit", _BNB[1], state_bytes=2.05, small_state_bytes=8,
        note="a quarter of the memory for its state; the same as `--use_8bit_adam`",
    ),
    _row(
        "PagedAdamW8bit", _BNB[0], "PagedAdamW8bit", _BNB[1], state_bytes=2.05, small_state_bytes=8,
        note="its state moves to main memory when the GPU's runs out",
    ),
    _row(
        "Lion", "lion_pytorch", "Lion", "lion-pytorch", state_bytes=4,
        note="needs 3 to 10 times lower rates than AdamW; the same as `--use_lion_optimizer`",
    ),
    _row("Lion8bit", _BNB[0], "Lion8bit", _BNB[1], state_bytes=1.02, small_state_bytes=4, note="Lion with 8-bit state"),
    _row(
        "PagedLion8bit", _BNB[0], "PagedLion8bit", _BNB[1], state_bytes=1.02, small_state_bytes=4,
        note="its state moves to main memory when the GPU's runs out",
    ),
    _row("SGDNesterov", "torch.optim", "SGD", "torch", **_NESTEROV, state_bytes=4, note="nesterov=True"),
    _row(
        "SGDNesterov8bit", _BNB[0], "SGD8bit", _BNB[1], **_NESTEROV, state_bytes=1.02, small_state_bytes=4,
        note="8-bit state; bitsandbytes accepts nesterov=True but computes plain momentum",
    ),
    _row("DAdaptation", "dadaptation.experimental", "DAdaptAdamPreprint", **_D, note="another name of DAdaptAdamPreprint"),
    _row("DAdaptAdamPreprint", "dadaptation.experimental", "DAdaptAdamPreprint", **_D, note="the version of the D-Adaptation preprint"),
    _row("DAdaptAdam", "dadaptation", "DAdaptAdam", **_D),
    _row("DAdaptAdaGrad", "dadaptation", "DAdaptAdaGrad", **_D, one_rate=True, note="one rate for everything that is trained"),
    _row("DAdaptAdan", "dadaptation", "DAdaptAdan", **{**_D, "state_bytes": 20}),
    _row("DAdaptAdanIP", "dadaptation.experimental", "DAdaptAdanIP", **{**_D, "state_bytes": 20}),
    _row("DAdaptLion", "dadaptation", "DAdaptLion", **{**_D, "state_bytes": 8}),
    _row(
        "DAdaptSGD", "dadaptation", "DAdaptSGD", **_D, one_rate=True, divides_by_first_rate=True,
        note="one rate for everything that is trained; may diverge at 1.0: lower the rate or set momentum=0.9",
    ),
    _row(
        "Prodigy", "prodigyopt", "Prodigy", "prodigyopt", state_bytes=16, kind="factor", splits=True,
        note="`split_groups=True`: a rate for each part",
    ),
    _row(
        "AdaFactor", "transformers.optimization", "Adafactor", "transformers", kind="relative", defaults={"relative_step": True},
        state_bytes=0.03, note="with relative_step=False it uses the given learning rates",
    ),
)  # fmt: skip

BY_NAME: Mapping[str, OptimizerRow] = MappingProxyType({row.name.lower(): row for row in OPTIMIZERS})


def row_of_class(kind: type) -> OptimizerRow | None:
    """The last row of a class; None without one. Rows with `fixed` arguments do not count."""
    root = kind.__module__.partition(".")[0]
    same = [row for row in OPTIMIZERS if not row.fixed and row.class_name == kind.__name__ and row.module.partition(".")[0] == root]
    return same[-1] if same else None


ADAMS_STATE = 8.0  # bytes per weight of two float32 moments, assumed for optimizers outside the table


def state_bytes(name: str) -> float:
    """Bytes of optimizer state per trained value; `name` is as in `--optimizer_type` or a class's name, in any letter case."""
    row = _row_of(name)
    return ADAMS_STATE if row is None else row.state_bytes


def parameter_state_bytes(name: str, values: int) -> float:
    """Bytes of optimizer state of one parameter with so many values; `name` as for `state_bytes`."""
    row = _row_of(name)
    small = row.small_state_bytes if row is not None and values < SMALL else None
    return values * (state_bytes(name) if small is None else small)


def _row_of(name: str) -> OptimizerRow | None:
    wanted = name.rpartition(".")[2].lower()
    return next((row for row in OPTIMIZERS if wanted in (row.name.lower(), row.class_name.lower())), None)


RATE_MEANS: Mapping[Kind, str] = MappingProxyType(
    {"plain": "the rate itself", "factor": "a factor, 1.0 expected", "relative": "unused: finds its own"}
)


def chosen_name(options: OptimizerOptions) -> str:
    """The optimizer that the options select. Raises UserError when they contradict each other."""
    return resolve_name(options.optimizer_type, options.use_8bit_adam, options.use_lion_optimizer)


def resolve_name(optimizer_type: str | None, use_8bit_adam: bool = False, use_lion_optimizer: bool = False) -> str:
    """The optimizer that the three options select; AdamW when none does. Raises UserError when they contradict each other."""
    old = {"--use_8bit_adam": "AdamW8bit" if use_8bit_adam else "", "--use_lion_optimizer": "Lion" if use_lion_optimizer else ""}
    asked = {flag: name for flag, name in old.items() if name}
    explicit = (optimizer_type or "").strip()
    if len(asked) > 1:
        raise UserError(coded("OPT-008", "--use_8bit_adam and --use_lion_optimizer select different optimizers: remove one"))
    for flag, name in asked.items():
        if explicit and explicit.lower() != name.lower():
            raise UserError(
                coded("OPT-008", f"{flag} means --optimizer_type {name}, but --optimizer_type {explicit} is given too: remove one")
            )
        return name
    return explicit or "AdamW"


def markdown() -> str:
    """The table of docs/optimizers.md."""
    titles = ("`--optimizer_type`", "Class", "Install", "`--learning_rate` is", "Added by default", "Bytes a weight", "Note")
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for row in OPTIMIZERS:
        install = "—" if row.package in ("torch", "transformers") else f"`{install_command(row.package)}`"
        added = ", ".join(f"`{key}={value}`" for key, value in row.defaults.items()) or "—"
        name, owner = f"`{row.name}`", f"`{row.module}.{row.class_name}`"
        cells = (name, owner, install, RATE_MEANS[row.kind], added, f"{row.state_bytes:.2g}", row.note or "—")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
