"""Import `torch._dynamo`, torch's compiler and half of torch's import time, only when something is compiled.

Until then a placeholder in `sys.modules` provides what code uses without compiling: decorators, which are recorded and applied once the
compiler is imported; graph breaks, which do nothing; and the class of compiled modules, which has no instances.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar, cast

from library.light_imports.later import nothing_left

NAME = "torch._dynamo"
_LOCK = threading.RLock()
F = TypeVar("F")
AnyFunction = Callable[..., object]


class LateDynamo(ModuleType):
    """The placeholder. Any other name, and any import of a submodule, replaces it by the real module."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(NAME)
        self.__spec__, self.__loader__, self.__file__, self.__package__ = spec, spec.loader, spec.origin, NAME
        self.__path__ = list(spec.submodule_search_locations or ())
        self._marks: list[tuple[str, object]] = []
        self._finder = _Below(self)
        self.eval_frame = _EvalFrame(self)

    def put_in_place(self) -> None:
        """Make `import torch._dynamo` return this placeholder from now on."""
        sys.meta_path = [self._finder, *sys.meta_path]
        sys.modules[NAME] = self
        vars(sys.modules["torch"])["_dynamo"] = self

    def real(self) -> ModuleType:
        """Return the compiler: put it in the placeholder's place and apply the recorded decorators."""
        with _LOCK:
            torch = sys.modules["torch"]
            if sys.modules.get(NAME) is self:
                del sys.modules[NAME]
                sys.meta_path = [one for one in sys.meta_path if one is not self._finder]
                if vars(torch).get("_dynamo") is self:
                    delattr(torch, "_dynamo")
                self.eval_frame.forget()
                with nothing_left():
                    compiler = import_module(NAME)
                for mark, thing in self._marks:
                    getattr(compiler, mark)(thing)
                self._marks.clear()
            return import_module(NAME)

    def is_waiting(self) -> bool:
        """Whether the compiler is not imported yet."""
        return sys.modules.get(NAME) is self

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        return getattr(self.real(), name)

    def graph_break(self, *args: object, **settings: object) -> None:
        """Do nothing, since no graph is recorded."""
        if not self.is_waiting():
            self.real().graph_break(*args, **settings)

    def allow_in_graph(self, thing: F) -> F:
        """Return `thing` unchanged; it is marked once the compiler is imported."""
        return self._marked("allow_in_graph", thing)

    def assume_constant_result(self, thing: F) -> F:
        """Return `thing` unchanged; it is marked once the compiler is imported."""
        return self._marked("assume_constant_result", thing)

    def disable(self, fn: AnyFunction | None = None, recursive: bool = True, **settings: object) -> object:
        """Return `fn`, excluded from compilation once the compiler is imported."""
        if fn is None:
            return lambda fn: self.disable(fn, recursive, **settings)
        if not self.is_waiting() or not inspect.isfunction(fn):
            return self.real().disable(fn, recursive, **settings)
        disabled: list[AnyFunction] = []

        @functools.wraps(fn)
        def uncompiled(*args: object, **named: object) -> object:
            if not disabled:
                if self.is_waiting():
                    return fn(*args, **named)
                disabled.append(cast(AnyFunction, self.real().disable(fn, recursive, **settings)))
            return disabled[0](*args, **named)

        return uncompiled

    def _marked(self, mark: str, thing: F) -> F:
        if self.is_waiting():
            self._marks.append((mark, thing))
        else:
            getattr(self.real(), mark)(thing)
        return thing


class _EvalFrame:
    """`torch._dynamo.eval_frame`, as far as code needs it to check whether a module is compiled."""

    class OptimizedModule:
        """A class without instances while nothing is compiled."""

    def __init__(self, dynamo: LateDynamo) -> None:
        self._dynamo = dynamo

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._dynamo.real().eval_frame, name)

    def forget(self) -> None:
        """Remove the placeholder; the real one takes over."""
        vars(self._dynamo).pop("eval_frame", None)


class _Below(MetaPathFinder, Loader):
    """Turns an import of a submodule into an import of the whole compiler package, in its own order."""

    def __init__(self, dynamo: LateDynamo) -> None:
        self._dynamo = dynamo
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(NAME + ".") or not self._dynamo.is_waiting():
            return None
        self._dynamo.real()
        if fullname not in sys.modules:
            return None
        self._specs[fullname] = sys.modules[fullname].__spec__
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Only restore the spec: the module has already run."""
        module.__spec__ = self._specs.pop(module.__name__)


def put_off_dynamo() -> None:
    """Put the placeholder in place, unless the compiler is already imported; torch must be imported."""
    spec = None if NAME in sys.modules else find_spec(NAME)
    if spec is not None and spec.loader is not None:
        LateDynamo(spec).put_in_place()


def fetch_dynamo() -> None:
    """Import the compiler now, if it is still a placeholder."""
    dynamo = sys.modules.get(NAME)
    if isinstance(dynamo, LateDynamo):
        dynamo.real()
