"""A process that imports everything once and answers each request with a forked child, which runs a whole command and nothing else.

Requests and answers are JSON lines on standard input and output. POSIX only.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEMORY = 6 << 30  # bytes of address space beyond what this process has
LARGEST_FILE = 1 << 30


def serve() -> None:
    """Answer until standard input ends."""
    _import_everything()
    gc.collect()
    gc.freeze()  # so that no child copies what all share
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        said.write(json.dumps(answer(request)) + "\n")
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
    sys.path.insert(0, str(ROOT))
    import importlib

    skipped = ("__main__", "windows")
    for path in sorted((ROOT / "library").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not any(part in name for part in skipped):
            importlib.import_module(name)
    import tests.attack.surroundings
    import tests.small_models  # noqa: F401


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The exit code of a request's command (None: it had to be killed), its seconds, and those of CPU."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(request)
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


def _child(request: dict[str, Any]) -> None:
    """Become the command; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        out = os.open(request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        err = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for target, source in enumerate((null, out, err)):
            os.dup2(source, target)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(request["cwd"])
        os.environ.update(request["environment"])
        _limit()
        code = _run(request)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _limit() -> None:
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    if held:
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    if os.geteuid() == 0 and sys.platform == "linux":
        from tests.paths.wrong_places import lay_down_rights

        lay_down_rights()


def _run(request: dict[str, Any]) -> int:
    import traceback

    if request["script"] == "make":
        from tests.attack.surroundings import make

        make(Path(request["cwd"]))
        return 0
    script = ROOT / request["script"]
    sys.argv = [str(script), *request["argv"]]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
