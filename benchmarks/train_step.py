"""How fast, and in how much memory, this suite trains full-size SD v1.5 beside a plain Diffusers + PEFT loop, on this machine.

python benchmarks/train_step.py --method lora --resolution 128 --batch 2 --precision no --steps 3 --rounds 4
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import sd_scripts
from benchmarks.rounds import Contestant, Job, Round

OURS, PEER = "benchmarks.own_loop", "benchmarks.peers.diffusers_peft"
RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft")
COLUMNS = (
    *("date", "device", "method", "px", "batch", "precision", "text encoder", "ours img/s", "peer img/s", "ours / peer"),
    *("ours CPU s/update", "peer CPU s/update", "ours GiB", "peer GiB", "share of floor", "versions", "note"),
)


@dataclass(frozen=True)
class Outcome:
    """Images a second and CPU seconds an update (medians of the rounds), the speeds' ratio (median over pairs of rounds), peak memory
    in GiB, share of the floor."""

    ours: float
    peer: float
    ratio: float
    ours_cpu: float
    peer_cpu: float
    ours_gib: float
    peer_gib: float
    share: float | None
    trained: int


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    chosen = _parse(argv)
    model = chosen.model or random_model()
    job = Job(
        method=chosen.method,
        resolution=chosen.resolution,
        batch=chosen.batch,
        precision=chosen.precision,
        rank=chosen.rank,
        text_encoder=chosen.text_encoder,
        gradient_checkpointing=chosen.gradient_checkpointing,
        device=chosen.device,
        steps=chosen.steps,
        warmup=chosen.warmup,
        model=str(Path(model).resolve()),
        compiled=chosen.compile,
    )
    if chosen.sd_scripts:
        peer = sd_scripts.Side(chosen.sd_scripts.resolve(), chosen.sd_scripts_python)
        print(sd_scripts.text(*sd_scripts.compare(job, peer, chosen.rounds, shlex.split(chosen.more))))
        return
    outcome = compare(job, chosen.rounds, not chosen.one_at_a_time)
    row = _row(job, outcome, chosen.note)
    print("\n".join(f"{name:>15}: {value}" for name, value in zip(COLUMNS, row, strict=True)))
    if not chosen.no_record:
        _record(row)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train full-size SD v1.5 with this suite and with Diffusers + PEFT in turns; compare.")
    parser.add_argument("--method", choices=["lora", "full", "ti"], default="lora", help="ti: beside sd-scripts alone")
    parser.add_argument("--resolution", type=int, default=512, help="pixels a side, a multiple of 64")
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--rank", type=int, default=4, help="of the LoRA")
    parser.add_argument("--text_encoder", action=argparse.BooleanOptionalAction, default=None, help="train it too (default: with lora)")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true", help="compile the U-Net on both sides")
    parser.add_argument("--steps", type=int, default=5, help="updates a round")
    parser.add_argument("--rounds", type=int, default=4, help="rounds a side, taken in turns")
    parser.add_argument("--warmup", type=int, default=2, help="updates a side before the first round")
    parser.add_argument("--one_at_a_time", action="store_true", help="never hold both sides in memory (full training on a small machine)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", type=Path, help="SD v1 checkpoint; default: one with random weights, made once in the temporary folder")
    parser.add_argument("--sd_scripts", type=Path, metavar="PATH", help="a checkout of sd-scripts: compare whole commands with its own")
    parser.add_argument("--sd_scripts_python", default=sys.executable, help="the Python that has what the checkout needs")
    parser.add_argument("--more", default="", metavar="OPTIONS", help='further options of both commands: --more="--clip_skip 2"')
    parser.add_argument("--note", default="", help="for the table: what else ran, a driver version, …")
    parser.add_argument("--no_record", action="store_true", help="leave benchmarks/RESULTS.md as it is")
    chosen = parser.parse_args(argv)
    if chosen.method == "ti" and not chosen.sd_scripts:
        parser.error("--method ti: only beside sd-scripts; name its checkout with --sd_scripts PATH")
    if chosen.text_encoder is None:
        chosen.text_encoder = chosen.method == "lora"
    return chosen


def random_model() -> Path:
    from benchmarks.make_model import write

    path = Path(tempfile.gettempdir()) / "sd15-random-weights.safetensors"
    if not path.exists():
        write(path, "v1", "full")
    return path


def compare(job: Job, rounds: int, together: bool = True) -> Outcome:
    """Both contestants on `job` for `rounds` rounds each.

    `together`: both are in memory and take turns, and who begins changes from round to round. Otherwise one after the other, for
    machines that hold only one; noise then does not cancel.
    """
    started: dict[str, Contestant] = {}
    done: dict[str, list[Round]] = {OURS: [], PEER: []}
    memory: dict[str, float] = {}
    try:
        for sides in ((OURS, PEER),) if together else ((OURS,), (PEER,)):
            for side in sides:
                started[side] = Contestant(side, job)
                started[side].wait_until_ready()
            for number in range(rounds):
                for side in sides if number % 2 == 0 else sides[::-1]:
                    done[side].append(started[side].round())
            memory |= {side: started[side].finish() for side in sides}
    except BaseException:
        for contestant in started.values():
            contestant.kill()
        raise
    trained = [started[side].facts["trained"] for side in (OURS, PEER)]
    assert trained[0] == trained[1], f"not the same work: {trained[0]} and {trained[1]} trained parameters"
    speed = [statistics.median(job.steps * job.batch / each.seconds for each in done[side]) for side in (OURS, PEER)]
    ratio = statistics.median(theirs.seconds / own.seconds for own, theirs in zip(done[OURS], done[PEER], strict=True))
    cpu = [statistics.median(each.cpu_seconds / job.steps for each in done[side]) for side in (OURS, PEER)]
    return Outcome(*speed, ratio, *cpu, memory[OURS], memory[PEER], _share(job, started[OURS].facts, speed[0]), trained[0])


def _share(job: Job, facts: dict[str, float], images_a_second: float) -> float | None:
    """Arithmetic of the U-Net over what the device could do in the time: forward and gradients of activations for LoRA (twice the
    forward), of weights too for full training (three times). The text encoder and recomputation count for nothing."""
    if "matmul_tflops" not in facts:
        return None
    needed = facts["unet_tflop"] * (2 if job.method == "lora" else 3)
    return needed * images_a_second / facts["matmul_tflops"]


def _row(job: Job, outcome: Outcome, note: str) -> tuple[str, ...]:
    method = f"LoRA rank {job.rank}" if job.method == "lora" else "full"
    share = "–" if outcome.share is None else f"{outcome.share:.0%}"
    if job.gradient_checkpointing:
        method += ", checkpointing"
    if job.compiled:
        method += ", compiled"
    return (
        datetime.date.today().isoformat(),
        device_name(job.device),
        f"{method} ({outcome.trained / 1e6:.1f} M)",
        str(job.resolution),
        str(job.batch),
        {"no": "fp32"}.get(job.precision, job.precision),
        "trained" if job.text_encoder else "frozen",
        f"{outcome.ours:.3g}",
        f"{outcome.peer:.3g}",
        f"{outcome.ratio:.2f}",
        f"{outcome.ours_cpu:.3g}",
        f"{outcome.peer_cpu:.3g}",
        f"{outcome.ours_gib:.2f}",
        f"{outcome.peer_gib:.2f}",
        share,
        ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES),
        note,
    )


def device_name(device: str) -> str:
    """The GPU's name, or the processor's with the number of cores that this process may use."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores} cores"


def _record(row: tuple[str, ...]) -> None:
    """Append to the table, which is the last thing in the page."""
    page = RESULTS.read_text(encoding="utf-8").rstrip("\n") + "\n"
    cells = " | ".join(cell.replace("|", "/") for cell in row)
    RESULTS.write_text(f"{page}| {cells} |\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
