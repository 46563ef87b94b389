"""The whole examination in order: quick checks run while the heavy ones run in a separate process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from library.doctor.child_process import ROOT, Answer, ask
from library.doctor.command import Command, places_of
from library.doctor.driver import find_driver
from library.doctor.extensions import WITH_TORCH, WITHOUT_TORCH, judge_bitsandbytes, judge_packages, judge_xformers
from library.doctor.findings import Finding
from library.doctor.folders import Place, judge_place
from library.doctor.machine import judge_encodings, judge_memory
from library.doctor.torch_build import judge_torch
from library.doctor.versions import installed_version, judge_python, judge_versions

_OPTIONAL_JOBS = ("bitsandbytes", "xformers")  # run if the package is installed


def examine(command: Command | None, asked: Finding | None) -> Iterator[Finding]:
    """Yield every finding, in the order in which a reader should fix them; `asked` is the finding about the command."""
    jobs: dict[str, Sequence[str]] = {"torch": (), "packages": (*WITHOUT_TORCH, *WITH_TORCH)}
    jobs |= {name: () for name in _OPTIONAL_JOBS if installed_version(name) is not None}
    with ThreadPoolExecutor(max_workers=1) as beside:
        answers = beside.submit(ask, jobs)
        yield judge_python()
        yield from judge_versions(ROOT)
        yield judge_memory()
        yield from judge_encodings()
        if asked is not None:
            yield asked
        yield from _places(command)
        yield from _heavy(answers.result())


def _places(command: Command | None) -> Iterator[Finding]:
    if command is None or command.options is None:
        yield from judge_place(Place("the current folder", Path.cwd(), written=True))
    else:
        seen: set[Place] = set()
        for place in places_of(command.options):
            if isinstance(place, Finding):
                yield place
            elif place not in seen:
                seen.add(place)
                yield from judge_place(place)
    yield from judge_place(Place("the temporary folder", Path(tempfile.gettempdir()), written=True))


def _heavy(answers: dict[str, Answer]) -> Iterator[Finding]:
    torch = answers["torch"]
    loads = torch.first("version") is not None
    yield from judge_torch(torch, find_driver())
    installed = frozenset(name for name in ("pillow", "opencv-python", *WITHOUT_TORCH, *WITH_TORCH) if installed_version(name) is not None)
    yield from judge_packages(answers["packages"], loads, installed)
    if not loads:  # packages that need torch fail with it
        return
    if "bitsandbytes" in answers:
        yield judge_bitsandbytes(answers["bitsandbytes"])
    if "xformers" in answers:
        yield judge_xformers(answers["xformers"])
