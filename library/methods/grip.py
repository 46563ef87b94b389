"""What a network has attached to the modules of a model, and how to detach it temporarily: for networks of any package."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

from torch import nn

from library.errors import UserError, coded

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
Held = tuple[nn.Module, dict[str, object]]  # a module, and those of its attributes by which others change its output


class Grip:
    """Create it before a network is applied to `parts`, and `close` it afterwards.

    Networks replace a module's `forward` or add hooks. Multiplier 0 does not always give the base model: with LyCORIS's DoRA it gives the
    sum of both weights.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        self._parts = tuple(parts)
        self._before = {id(module): (module, _held(module)) for part in parts for module in part.modules()}
        self._changed: list[tuple[nn.Module, dict[str, object], dict[str, object]]] = []  # before the network, and with it

    def close(self, network_module: str) -> None:
        """Record what has changed. Raises UserError if modules of the model were replaced, since that cannot be undone temporarily."""
        modules = [module for part in self._parts for module in part.modules()]
        if any(id(module) not in self._before for module in modules):
            raise UserError(
                coded(
                    "LORA-010",
                    f"--prior_from_base: {network_module} replaces modules of the model, which cannot be undone for a pass; "
                    "use networks.lora, or remove --prior_from_base",
                )
            )
        for module, before in self._before.values():
            now = _held(module)
            if now != before:
                self._changed.append((module, before, now))

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Restore the model as it was before the network, inside this context."""
        for module, before, _ in self._changed:
            _put(module, before)
        try:
            yield
        finally:
            for module, _, now in self._changed:
                _put(module, now)


def _held(module: nn.Module) -> dict[str, object]:
    """Its instance-level `forward`, if set, and copies of its hooks."""
    own = vars(module)
    held: dict[str, object] = {name: copy.copy(own[name]) for name in _HOOKS}
    return held | ({"forward": own["forward"]} if "forward" in own else {})


def _put(module: nn.Module, held: dict[str, object]) -> None:
    vars(module).pop("forward", None)
    vars(module).update({name: copy.copy(value) if name in _HOOKS else value for name, value in held.items()})
