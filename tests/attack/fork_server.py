"""A process that imports everything once and answers each request with a forked child, which calls one function and nothing else.

Requests and answers are JSON lines on standard input and output. POSIX only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """How a child ended: its exit code (negative: a signal; None: it ran out of time), seconds, those of CPU, and what it wrote."""

    code: int | None
    seconds: float
    cpu: float
    stdout: str
    stderr: str


class ForkServer:
    """The client's end. `folder` is the server's own, with a home and a place for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        own = {"PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "TOKENIZERS_PARALLELISM": "false"}
        quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
        self._log = (folder / "server.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.attack.fork_server"],
            cwd=ROOT, env={**os.environ, **quiet, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, encoding="utf-8",
        )  # fmt: skip

    def ask(self, function: str, given: Mapping[str, object], seconds: float, cwd: Path = ROOT) -> Answer:
        """Have a child call `function`, as module:name, with `given`, which JSON can spell; what it returns is the exit code."""
        outputs = {name: self.folder / name for name in ("stdout", "stderr")}
        request = {"function": function, "given": given, "seconds": seconds, "cwd": str(cwd)} | {n: str(p) for n, p in outputs.items()}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Answer(**answer, **{name: path.read_bytes().decode("utf-8", "replace") for name, path in outputs.items()})

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()


@contextmanager
def fork_server(folder: Path) -> Iterator[ForkServer]:
    """A server that is ended afterwards."""
    server = ForkServer(folder)
    try:
        yield server
    finally:
        server.close()


# ---- the server's side


def serve() -> None:
    """Answer until standard input ends."""
    _import_everything()
    gc.collect()
    gc.freeze()  # so that no child copies what all share
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        said.write(json.dumps(answer(json.loads(line))) + "\n")
        said.flush()


def _import_everything() -> None:
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    import accelerate
    import diffusers
    import transformers
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from safetensors.torch import load_file
    from transformers import CLIPTextModel, CLIPTokenizer

    assert accelerate and diffusers and transformers and AutoencoderKL and DDIMScheduler and UNet2DConditionModel and load_file
    assert CLIPTextModel and CLIPTokenizer
    skipped = ("__main__", "windows")
    for path in sorted((ROOT / "library").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not any(part in name for part in skipped):
            importlib.import_module(name)
    for name in ("psutil", "tensorboard.summary.writer.record_writer", "PIL.PngImagePlugin", "tests.attack.commands", "tests.attack.dying"):
        importlib.import_module(name)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """`code`, `seconds` and `cpu` of an `Answer`."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(request)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)  # as the child does: it may be killed before it has come to that
    code, used = _wait(child, begun + request["seconds"])
    return {"code": code, "seconds": time.monotonic() - begun, "cpu": used}


def _wait(child: int, until: float) -> tuple[int | None, float]:
    """Exit code (negative: the signal's number; None: it had to be killed) and CPU seconds, its own children included."""
    pause = 0.002
    code: int | None = None
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # workers that outlived it
    return code, usage.ru_utime + usage.ru_stime


def _child(request: Mapping[str, Any]) -> None:
    """Call the function and end; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        out, err = (os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("stdout", "stderr"))
        for target, source in enumerate((null, out, err)):
            os.dup2(source, target)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # type: ignore[misc]  # noqa: SIM115
        os.chdir(request["cwd"])
        module, _, name = request["function"].partition(":")
        code = getattr(importlib.import_module(module), name)(request["given"])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
