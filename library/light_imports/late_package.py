"""Packages whose `__init__` runs on first use of a name, so that one of their modules can be imported without all others."""

from __future__ import annotations

import sys
import threading
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import cast

_LOCK = threading.RLock()


class LatePackage(ModuleType):
    """A package in `sys.modules` whose code has not run yet; it runs on access to a name that none of its imported modules has."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__file__, self.__package__ = spec, spec.loader, spec.origin, spec.name
        self.__path__ = list(spec.submodule_search_locations or ())
        self._has_run = False

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        self.run()
        in_place = sys.modules.get(self.__name__)  # a package may put another module there
        if name not in vars(self) and in_place is not None and in_place is not self:
            return getattr(in_place, name)
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def run(self) -> None:
        """Run the package's `__init__` once."""
        with _LOCK:
            if self._has_run:
                return
            self._has_run = True
            assert self.__loader__ is not None
            cast(Loader, self.__loader__).exec_module(self)


def put_off(name: str) -> None:
    """Delay the package `name`, unless it is already imported or is not a package; its parent must be imported."""
    parent, _, child = name.rpartition(".")
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        return
    sys.modules[name] = LatePackage(spec)
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])


def fetch(name: str) -> None:
    """Run the delayed package `name` now; does nothing for other packages."""
    package = sys.modules.get(name)
    if isinstance(package, LatePackage):
        package.run()
