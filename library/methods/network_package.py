"""Network modules of other packages: named with their version, their keys checked, and tried before training."""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from types import ModuleType

import torch
from torch import nn

from library.errors import UserError, coded
from library.options.suggest import closest
from library.packages import network_package

_SLIP = 0.85  # similarity from which an unknown key counts as a typo
# What code raises if it does not work as promised; out of memory and signals are not included.
_FAULTS = (AssertionError, AttributeError, KeyError, IndexError, NotImplementedError, TypeError, ValueError)


def release(name: str) -> str:
    """Return the package of a module and its version, "lycoris-lora 3.4.0"; the module's name if it belongs to no package."""
    packages = metadata.packages_distributions().get(name.partition(".")[0], [])
    return f"{packages[0]} {metadata.version(packages[0])}" if packages else name


@contextlib.contextmanager
def blamed(name: str, what: str, remedy: str) -> Iterator[None]:
    """Turn an error of the module `name`, if it is not ours, into a one-line UserError that names its package."""
    try:
        yield
    except _FAULTS as fault:
        if network_package(name).is_ours:
            raise
        raise UserError(
            coded("LORA-011", f"--network_module {name}: {what} ({shown_fault(fault)}), in {release(name)}; {remedy}")
        ) from fault


def check_arguments(name: str, module: ModuleType, arguments: Mapping[str, str]) -> list[str]:
    """Return warnings about `--network_args` that the module's `create_network` does not read; raises UserError for typos.

    Returns nothing if its code does not show what it reads, since it may pass its arguments on.
    """
    known = None if network_package(name).is_ours else keys_read(module.create_network)
    unknown = [] if known is None else [key for key in arguments if key not in known]
    if known is None or not unknown:
        return []
    package, others = release(name), _constructors_have(module)
    slips = {key: closest(key, known, likeness=_SLIP) for key in unknown if key not in others}
    lines = [
        coded("LORA-007", f"--network_args {key}={arguments[key]}: {package} has no {key}; did you mean {one}?")
        for key, one in slips.items()
        if one
    ]
    if lines:
        raise UserError(*lines)
    return [f"--network_args {key}={arguments[key]}: {package} does not use {key}, so it has no effect; remove it" for key in unknown]


def _constructors_have(module: object) -> set[str]:
    """Return the arguments of the classes in its table of algorithms, whether `create_network` passes them on or not."""
    table = getattr(module, "network_module_dict", {})
    return {key for kind in table.values() if inspect.isclass(kind) for key in inspect.signature(kind).parameters}


def keys_read(create: Callable[..., object]) -> frozenset[str] | None:
    """Return the keyword arguments that a function reads, from its source; None if that is unknown."""
    function = inspect.unwrap(create)
    try:
        parameters = inspect.signature(function).parameters.values()
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError, ValueError):
        return None
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    if rest is None:
        return frozenset(named)
    read = _read_of(tree, rest, getattr(function, "__globals__", {}))
    return None if read is None else frozenset(named | read)


def _read_of(tree: ast.AST, rest: str, names: Mapping[str, object]) -> set[str] | None:
    """Return the keys that code reads from its dictionary `rest`; None if `rest` is passed on, or read with computed keys."""
    read: set[str] = set()
    tables: list[str] = []
    seen, iterated = 0, False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is(node.func.value, rest):
            seen += 1
            if node.func.attr in ("get", "pop", "setdefault"):
                if not (node.args and isinstance(node.args[0], ast.Constant)):
                    return None
                read.add(str(node.args[0].value))
            elif node.func.attr in ("items", "keys"):
                iterated = True
            else:
                return None
        elif isinstance(node, ast.Subscript) and _is(node.value, rest):
            seen += 1
            if isinstance(node.slice, ast.Constant):
                read.add(str(node.slice.value))
            elif isinstance(node.ctx, ast.Load):
                return None
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            if _is(node.comparators[0], rest):
                seen += 1
                read |= {str(node.left.value)} if isinstance(node.left, ast.Constant) else set()
            elif isinstance(node.comparators[0], ast.Name):  # older names, which a table of the module maps to new ones
                table = names.get(node.comparators[0].id)
                tables += [str(key) for key in table] if isinstance(table, dict | set | frozenset) else []
    everywhere = sum(1 for node in ast.walk(tree) if _is(node, rest))
    if everywhere != seen or (iterated and not tables):
        return None
    return read | set(tables)


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def check_algorithm(name: str, module: object, arguments: Mapping[str, str]) -> None:
    """Raise UserError for an unknown `algo`, if the package has a list of them, as LyCORIS does."""
    table = getattr(module, "network_module_dict", None)
    algo = arguments.get("algo", "")
    if not algo or not isinstance(table, Mapping) or algo.lower() in table:
        return
    near = closest(algo.lower(), table)
    hint = f" (did you mean {near}?)" if near else ""
    raise UserError(
        coded(
            "LORA-011",
            f"--network_module {name}: cannot create its network: {release(name)} has no algo={algo}{hint}; set --network_args algo= to "
            f"one of {', '.join(table)}, or use networks.lora",
        )
    )


def try_layers(name: str, arguments: Mapping[str, str], *parts: nn.Module) -> None:
    """Run one layer of each kind that an external network patches in `parts`; raises UserError if its code fails there."""
    if network_package(name).is_ours:
        return
    tried: set[tuple[object, ...]] = set()
    settings = " ".join(f"{key}={value}" for key, value in arguments.items())
    for layer in (layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)):
        owner = getattr(vars(layer).get("forward"), "__self__", None)
        kind = (type(layer), getattr(layer, "kernel_size", None), type(owner))
        if owner is None or kind in tried:
            continue
        tried.add(kind)
        shape = (1, layer.in_features) if isinstance(layer, nn.Linear) else (1, layer.in_channels, *layer.kernel_size)
        values = next((parameter for parameter in layer.parameters()), torch.zeros(()))
        with (
            torch.no_grad(),
            blamed(name, f"its {type(owner).__name__} fails when it runs", _elsewhere(settings)),
            contextlib.suppress(RuntimeError),  # in a dtype that this device does not support, but a GPU may
        ):
            layer(torch.zeros(shape, dtype=values.dtype, device=values.device))


def _elsewhere(settings: str) -> str:
    shown = f"--network_args {settings}" if settings else "these settings"
    return f"{shown} cannot be trained with this version: use another algo (such as algo=locon), another version, or networks.lora"


def shown_fault(fault: BaseException) -> str:
    """Return its class and the first two lines of its message as one: torch says on the second line what does not fit."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return f"{type(fault).__name__}: {' '.join(lines[:2])}" if lines else type(fault).__name__


def key_values(items: Sequence[str]) -> dict[str, str]:
    """Parse `key=value` items; raises UserError for another form."""
    wrong = [item for item in items if not item.partition("=")[0].strip() or "=" not in item]
    if wrong:
        raise UserError(*(coded("OPT-010", f"--network_args {item!r}: has to be key=value, such as conv_dim=4") for item in wrong))
    return {key.strip(): value.strip() for key, _, value in (item.partition("=") for item in items)}
