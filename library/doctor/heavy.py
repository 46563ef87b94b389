"""Checks that may end their process, so they need a separate one: loading torch and its extensions, and computing with them.

Each step is printed as a line `doctor: [kind, text]` before the next one starts, so that the parent sees how far it got before a crash.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from types import ModuleType

from library.doctor.findings import named

SIGN = "doctor: "
TYPES = ("float32", "bfloat16", "float16")
_SIZE = 32  # tensor cores take multiples of 8
_WEIGHTS = 16384  # bitsandbytes keeps 8-bit states for tensors of 4096 numbers and more
_RATE = 0.01


def say(kind: str, text: str) -> None:
    """Report to the parent process."""
    print(SIGN + json.dumps([kind, text]), flush=True)


def load(name: str) -> ModuleType:
    """Import a module; reports it before the attempt."""
    say("stage", f"importing {name}")
    return importlib.import_module(name)


def check_torch(_: Sequence[str]) -> None:
    """Check the build, the GPUs, and small matrix products on each device."""
    torch = load("torch")
    say("version", str(torch.__version__))
    for name in ("cuda", "hip"):
        if getattr(torch.version, name, None):
            say(name, str(getattr(torch.version, name)))
    say("stage", "asking PyTorch for cards")
    devices = _cards(torch) if torch.cuda.is_available() else []
    if not devices and getattr(torch.version, "cuda", None):
        _say_why_there_is_no_card(torch)
    for device in devices or ["cpu"]:
        for name in TYPES:
            say("stage", f"a matrix product in {name} on {device}")
            say("product", f"{device} {name} {_product(torch, device, name)}")


def _cards(torch: ModuleType) -> list[str]:
    for architecture in torch.cuda.get_arch_list():
        say("architecture", str(architecture))
    count = int(torch.cuda.device_count())
    for index in range(count):
        major, minor = torch.cuda.get_device_capability(index)
        say("card", f"cuda:{index} {major}.{minor} {torch.cuda.get_device_name(index)}")
    return [f"cuda:{index}" for index in range(count)]


def _say_why_there_is_no_card(torch: ModuleType) -> None:
    try:
        torch.cuda.init()
    except Exception as reason:
        say("unavailable", named(reason))


def _product(torch: ModuleType, device: str, type_name: str) -> str:
    """Return `right`, `wrong`, or the error. Uses numbers -1, 0 and 1, so that the sums are exact in every dtype."""
    left = [[(i * j + i + 2 * j) % 3 - 1 for j in range(_SIZE)] for i in range(_SIZE)]
    right = [[(i * j + 2 * i + j) % 3 - 1 for j in range(_SIZE)] for i in range(_SIZE)]
    expected = [[sum(left[i][k] * right[k][j] for k in range(_SIZE)) for j in range(_SIZE)] for i in range(_SIZE)]
    try:
        kind = getattr(torch, type_name)
        result = torch.tensor(left, dtype=kind, device=device) @ torch.tensor(right, dtype=kind, device=device)
        return "right" if result.float().cpu().tolist() == expected else "wrong"
    except Exception as reason:
        return named(reason)


def _device(torch: ModuleType) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_bitsandbytes(_: Sequence[str]) -> None:
    """Check that the first step of AdamW moves every weight by the learning rate, against its gradient's sign (Kingma & Ba 2015, sec.
    2.1)."""
    torch = load("torch")
    bitsandbytes = load("bitsandbytes")
    device = _device(torch)
    say("device", device)
    say("stage", f"a step of AdamW8bit on {device}")
    weights = torch.nn.Parameter(torch.zeros(_WEIGHTS, device=device))
    signs = torch.where(torch.arange(_WEIGHTS, device=device) % 2 == 0, 1.0, -1.0)
    optimizer = bitsandbytes.optim.AdamW8bit([weights], lr=_RATE, weight_decay=0.0)
    weights.grad = 0.5 * signs
    optimizer.step()
    off = float((weights.detach() / _RATE + signs).abs().max())
    say("result", "right" if off < 0.05 else f"weights are off by {off:.2g} of a step")


def check_xformers(_: Sequence[str]) -> None:
    """Check that memory-efficient attention equals PyTorch's, on a GPU."""
    torch = load("torch")
    operations = load("xformers.ops")
    device = _device(torch)
    say("device", device)
    if device == "cpu":
        return
    say("stage", "memory-efficient attention")
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 64, 4, 40, generator=generator).to(device, torch.float16) for _ in range(3))
    result = operations.memory_efficient_attention(query, key, value)
    heads_first = [tensor.transpose(1, 2).float() for tensor in (query, key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)
    off = float((result.float() - expected).abs().max())
    say("result", "right" if off < 0.01 else f"numbers are off by {off:.2g}")


def check_packages(names: Sequence[str]) -> None:
    """Import each module, and continue after one that fails."""
    for name in names:
        try:
            load(name)
        except BaseException as reason:  # a package may end the process in any way
            say("broken", f"{name} {named(reason)}")
        else:
            say("loaded", name)


JOBS: dict[str, Callable[[Sequence[str]], None]] = {
    "torch": check_torch,
    "bitsandbytes": check_bitsandbytes,
    "xformers": check_xformers,
    "packages": check_packages,
}


def main(argv: Sequence[str]) -> None:
    """Run the jobs in turn, each given as `name,word,word`; an error is reported as a line, and the next job starts."""
    for job in argv:
        name, *words = job.split(",")
        say("job", name)
        try:
            JOBS[name](words)
        except BaseException as reason:
            say("failure", named(reason))
        else:
            say("done", "")
