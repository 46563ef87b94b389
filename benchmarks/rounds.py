"""What a speed comparison needs on both sides: the job, rounds that a driver starts one by one, peak memory, the machine's own rate.

Each contestant is a process of its own (its memory is then its own too). It makes everything ready, says so, and does one
round of steps whenever the driver says `go`, so that two contestants take turns and noise of the machine meets both alike.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GO, PROFILE, END = "go", "profile", "end"
SLOWEST = 15  # kernels that a profile names


@dataclass(frozen=True)
class Job:
    """The work that both sides do. `resolution` in pixels a side, `steps` updates a round, `warmup` updates before the first round."""

    method: str  # "lora" or "full"
    resolution: int
    batch: int
    precision: str  # "no", "bf16", "fp16"
    rank: int
    text_encoder: bool  # trained too
    gradient_checkpointing: bool
    device: str  # "cpu" or "cuda"
    steps: int
    warmup: int
    model: str  # checkpoint file; a peer may use random weights of its own
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    compiled: bool = False  # the U-Net, by inductor, on both sides


@dataclass(frozen=True)
class Round:
    """Time of a round. `cpu_seconds`, of all the process's threads, hardly change with what else the machine does; on a GPU they are
    what Python and kernel launches take."""

    seconds: float
    cpu_seconds: float


class Contestant:
    """The driver's end of a contestant's process."""

    def __init__(self, module: str, job: Job, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: more variables for the process. One that meets others at its start is asked for `facts` once all are started."""
        settings = {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1" if job.device == "cpu" else "0", **(environment or {})}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(asdict(job))],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What the process tells of itself when it is ready for the first round."""
        return self._answer()

    def wait_until_ready(self) -> None:
        """Return when it waits for its first round."""
        assert self.facts

    def round(self) -> Round:
        """Have `job.steps` updates done."""
        self.begin()
        return self.end()

    def begin(self) -> None:
        """Let a round begin; `end` waits for it."""
        self.wait_until_ready()
        self._say(GO)

    def end(self) -> Round:
        """What the round that was begun has taken."""
        return Round(**self._answer())

    def profile(self) -> str:
        """Have `job.steps` updates done under the profiler: what took longest, as a table."""
        self._say(PROFILE)
        return self._answer()["profile"]

    def finish(self) -> float:
        """End the process; returns its peak memory in GiB since the first round."""
        self._say(END)
        peak = self._answer()["peak_gib"]
        self._process.wait()
        return peak

    def kill(self) -> None:
        """End the process wherever it is."""
        self._process.kill()
        self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args[2]} ended early; its own words are above")
        return json.loads(line)


class Finished(Exception):
    """The driver wants no more rounds."""


def read_job() -> Job:
    """The job on a contestant's command line. From here on only answers to the driver go to standard output."""
    _Answers.open()
    return Job(**json.loads(sys.argv[1]))


def steps(job: Job, facts: dict[str, Any]) -> Iterator[int]:
    """Yield once for each update to be done: the warm-up, then a round whenever the driver says so; raises Finished at the end.

    A round is timed from its first `yield` to the moment the next update is asked for, the device being idle at both.
    """
    yield from range(job.warmup)
    _wait_for_device(job.device)
    _reset_peak(job.device)
    _Answers.give(facts)
    done = job.warmup
    while (word := sys.stdin.readline().strip()) in (GO, PROFILE):
        ours = range(done, done + job.steps)
        done += job.steps
        if word == PROFILE:
            with profiler(job.device) as profile:
                yield from ours
                _wait_for_device(job.device)
            _Answers.give({"profile": slowest(profile, job)})
            continue
        started = time.perf_counter(), time.process_time()
        yield from ours
        _wait_for_device(job.device)
        _Answers.give({"seconds": time.perf_counter() - started[0], "cpu_seconds": time.process_time() - started[1]})
    _Answers.give({"peak_gib": peak_gib(job.device)})
    raise Finished


def profiler(device: str) -> Any:
    """PyTorch's, of the device alone."""
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU])


def slowest(profile: Any, job: Job) -> str:
    """Kernels an update and the milliseconds they take, then those that take longest, as lines of a Markdown table."""
    field = "self_device_time_total" if job.device == "cuda" else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda event: -getattr(event, field))
    whole = sum(getattr(event, field) for event in events)
    rows = [
        f"| {event.key[:70].replace('|', '/')} | {event.count / job.steps:.0f} | {getattr(event, field) / 1000 / job.steps:.2f} |"
        for event in events[:SLOWEST]
    ]
    total = f"| all | {sum(event.count for event in events) / job.steps:.0f} | {whole / 1000 / job.steps:.2f} |"
    return "\n".join(["| kernel | an update | ms an update |", "|---|---|---|", total, *rows])


class _Answers:
    """The real standard output, out of reach of everything that prints."""

    file: Any = None

    @classmethod
    def open(cls) -> None:
        cls.file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    @classmethod
    def give(cls, answer: dict[str, Any]) -> None:
        cls.file.write(json.dumps(answer) + "\n")
        cls.file.flush()


def _wait_for_device(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    """Forget what loading took, where the system can."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_gib(device: str) -> float:
    """CUDA: largest memory in tensors. CPU: largest resident set; on Linux since `_reset_peak`, elsewhere of the whole process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    import psutil

    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss) / 2**30


def matmul_tflops(device: str, precision: str, size: int = 8192, repeats: int = 30) -> float:
    """TFLOP/s of square matrix products in the precision trained in: what the device really gives."""
    import torch

    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        _wait_for_device(device)
        started = time.perf_counter()
        left @ right
        _wait_for_device(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12


def copy_tbps(device: str, size: int = 1 << 31, repeats: int = 10) -> float:
    """TB/s of copying memory, bytes read and bytes written counted."""
    import torch

    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(repeats):
        _wait_for_device(device)
        started = time.perf_counter()
        target.copy_(source)
        _wait_for_device(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size / best / 1e12


def unet_tflop(resolution: int) -> float:
    """TFLOP of one image's forward through SD v1.5's U-Net, counted on weightless tensors; 0.803 at 512 px."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    side = resolution // 8
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        with FlopCounterMode(display=False) as counter:
            unet(torch.empty(1, 4, side, side), torch.zeros(1, dtype=torch.int64), torch.empty(1, 77, 768))
    return counter.get_total_flops() / 1e12
