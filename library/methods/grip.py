"""What a network has hung onto the modules of a model, and how it is taken off for a moment: for networks of any package."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

from torch import nn

from library.errors import UserError, coded

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
Held = tuple[nn.Module, dict[str, object]]  # a module, and of what it holds that by which others change its output


class Grip:
    """Made before a network is applied to `parts`; `close` it afterwards.

    Networks put a `forward` of their own into a module, or hooks. Multiplier 0 is not the same for all of them: LyCORIS's DoRA then gives
    the sum of both weights.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        self._parts = tuple(parts)
        self._before = {id(module): (module, _held(module)) for part in parts for module in part.modules()}
        self._changed: list[tuple[nn.Module, dict[str, object], dict[str, object]]] = []  # as before, as the network has it

    def close(self, network_module: str) -> None:
        """Note what has changed. Raises UserError where modules of the model were exchanged, which cannot be taken back for a moment."""
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
        """Inside, the model is as it was before the network was applied."""
        for module, before, _ in self._changed:
            _put(module, before)
        try:
            yield
        finally:
            for module, _, now in self._changed:
                _put(module, now)


def _held(module: nn.Module) -> dict[str, object]:
    """Its own `forward`, if it has one, and copies of its hooks."""
    own = vars(module)
    held: dict[str, object] = {name: copy.copy(own[name]) for name in _HOOKS}
    return held | ({"forward": own["forward"]} if "forward" in own else {})


def _put(module: nn.Module, held: dict[str, object]) -> None:
    vars(module).pop("forward", None)
    vars(module).update({name: copy.copy(value) if name in _HOOKS else value for name, value in held.items()})
