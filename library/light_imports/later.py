"""Modules that are imported on first use of a name: permanent placeholders for the names of modules not imported yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import cast


class LaterName:
    """A placeholder for `name` of `module`, created by `from module import name`; the module is imported when the name is called,
    subclassed or accessed. Before that, nothing is an instance of it."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__ = module
        self.__name__ = self.__qualname__ = name

    def _imported(self) -> object | None:
        """Return the real object if its module is already imported, else None."""
        module = sys.modules.get(self.__module__)
        return None if module is None or isinstance(module, LaterModule) else getattr(module, self.__name__, None)

    def _real(self) -> object:
        real = self._imported()
        return real if real is not None else getattr(_real_module(self.__module__), self.__name__)

    def __call__(self, *args: object, **settings: object) -> object:
        return cast(Callable[..., object], self._real())(*args, **settings)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, value: object) -> bool:
        real = self._imported()
        return real is not None and isinstance(value, cast(type, real))

    def __subclasscheck__(self, kind: type) -> bool:
        real = self._imported()
        return real is not None and issubclass(kind, cast(type, real))

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[object, ...]:
        return (self._real(),)

    def __or__(self, other: object) -> object:  # `DTensor | None` in an annotation
        return self

    __ror__ = __or__


class LaterModule(ModuleType):
    """A placeholder for a module or package while `left_for_later` is active; code that keeps it gets the real names through it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self._module = name

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self._module) is self:
            return LaterName(self._module, name)
        real = _real_module(self._module)
        return getattr(real, name) if hasattr(real, name) else import_module(f"{self._module}.{name}")


class _Finder(MetaPathFinder, Loader):
    """Answers imports of the named modules, and of everything below them, with placeholders."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = set(names)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if any(_is_in(fullname, name) for name in self.names):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LaterModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing."""

    def give_up(self, module: str) -> None:
        """Stop answering for `module`, which is now needed, and remove its placeholders from `sys.modules`."""
        for name in [name for name in self.names if _is_in(module, name)]:
            self.names.discard(name)
            _forget(name)


def _real_module(name: str) -> ModuleType:
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            finder.give_up(name)
    with nothing_left():
        return import_module(name)


@contextmanager
def nothing_left() -> Iterator[None]:
    """A context in which imports never give placeholders, even inside `left_for_later`: a real import includes everything it uses."""
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
    for finder in finders:
        _take_away(finder)
    try:
        yield
    finally:
        sys.meta_path = [*finders, *sys.meta_path]


def _take_away(finder: _Finder) -> None:
    """Remove the finder. Assigns a new list, since another thread may be iterating over the old one."""
    sys.meta_path = [one for one in sys.meta_path if one is not finder]
    for name in finder.names:
        _forget(name)


def _forget(name: str) -> None:
    """Remove the placeholders of a module and everything below it from `sys.modules` and from their parent modules."""
    for below in [one for one, module in list(sys.modules.items()) if _is_in(one, name) and isinstance(module, LaterModule)]:
        stand_in = sys.modules.pop(below)
        parent, _, child = below.rpartition(".")
        if parent in sys.modules and vars(sys.modules[parent]).get(child) is stand_in:
            delattr(sys.modules[parent], child)


def _is_in(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


@contextmanager
def left_for_later(names: Sequence[str]) -> Iterator[None]:
    """A context in which imports of the named modules give placeholders, unless they are already imported; afterwards imports are
    normal."""
    finder = _Finder([name for name in names if name not in sys.modules])
    sys.meta_path = [finder, *sys.meta_path]
    try:
        yield
    finally:
        _take_away(finder)
