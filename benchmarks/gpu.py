"""A plan for ten minutes on one GPU: what the device gives, what each option is worth, this suite beside Diffusers + PEFT, the kernels.

python benchmarks/gpu.py [--minutes 10] [--out FOLDER]                     (--device cpu --tiny --minutes 2: to see that it runs)

Every part is begun only while there is time, the most telling first; each prints its table as soon as it is done, and what fails is
told and leaves the others alone. The tables go into `gpu.md` in --out, to be pasted into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import sd_scripts, train_step
from benchmarks.rounds import ROOT, Contestant, Job, copy_tbps, matmul_tflops, unet_tflop

ALONE: tuple[tuple[str, ...], ...] = (
    (),
    ("--torch_compile",),
    ("--channels_last",),
    ("--torch_compile", "--channels_last"),
    ("--sdpa_backend", "flash"),
    ("--sdpa_backend", "cudnn"),
    ("--allow_tf32",),
    (),  # again: the distance to the first is the noise
)
AT_ONE: tuple[tuple[str, ...], ...] = ((), ("--torch_compile",), ("--torch_compile", "--cuda_graphs"))


@dataclass(frozen=True)
class Plan:
    """`job`: LoRA of rank 16 at 512 px, batch 8, bf16. `until`: seconds of the monotonic clock after which no part begins."""

    job: Job
    place: Path
    until: float

    def parts(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Title and table of each part, in the order of what they tell."""
        lora, one = self.job, replace(self.job, batch=1)
        full = replace(lora, method="full", batch=max(1, lora.batch // 2))
        yield "What the device gives", self.rates
        yield "Beside Diffusers + PEFT: LoRA", lambda: self.beside(lora)
        yield "Kernels of a LoRA update", lambda: self.kernels(lora)
        yield "Beside Diffusers + PEFT: LoRA, batch 1", lambda: self.beside(one)
        yield "Beside Diffusers + PEFT: LoRA, compiled", lambda: self.beside(replace(lora, compiled=True))
        yield "Options one by one", lambda: self.options(lora, ALONE)
        yield "Options at batch 1", lambda: self.options(one, AT_ONE)
        yield "Beside Diffusers + PEFT: full training", lambda: self.beside(full)
        yield "Full training, options", lambda: self.options(full, ((), ("--torch_compile",), ("--channels_last",)))

    def rates(self) -> str:
        """Matrix products, copies, and the arithmetic of the U-Net."""
        job = self.job
        tiny = job.device == "cpu"
        matrix = matmul_tflops(job.device, job.precision, 512 if tiny else 8192)
        copy = copy_tbps(job.device, 1 << 24 if tiny else 1 << 31)
        needed = unet_tflop(job.resolution)
        return f"{train_step.device_name(job.device)}: {matrix:.1f} TFLOP/s, {copy:.2f} TB/s; {needed:.3f} TFLOP an image forward"

    def beside(self, job: Job) -> str:
        """The real loop in turns with the peer's."""
        outcome = train_step.compare(job, rounds=3)
        share = "" if outcome.share is None else f" ({outcome.share:.0%} of the floor)"
        return (
            "| | ours | peer | ratio |\n|---|---|---|---|\n"
            f"| img/s | {outcome.ours:.2f}{share} | {outcome.peer:.2f} | {outcome.ratio:.2f} |\n"
            f"| GiB | {outcome.ours_gib:.2f} | {outcome.peer_gib:.2f} | {outcome.ours_gib / outcome.peer_gib:.2f} |"
        )

    def kernels(self, job: Job) -> str:
        """Of the real loop, by PyTorch's profiler."""
        contestant = Contestant(train_step.OURS, replace(job, steps=3))
        try:
            contestant.wait_until_ready()
            return contestant.profile()
        finally:
            contestant.kill()

    def options(self, job: Job, variants: tuple[tuple[str, ...], ...]) -> str:
        """Whole commands with each set of options; images a second are those of the median update."""
        rows = ["| options | img/s | CPU s until the first update | RAM GiB |", "|---|---|---|---|"]
        for number, more in enumerate(variants):
            if time.monotonic() > self.until:
                rows.append(f"| {' '.join(more) or 'none'} | no time left | | |")
                continue
            try:
                rows.append(self.row(job, more, f"{job.method}-{job.batch}-{number}"))
            except Exception as fault:
                rows.append(f"| {' '.join(more) or 'none'} | failed: {str(fault).strip().splitlines()[-1][:200]} | | |")
        return "\n".join(rows)

    def row(self, job: Job, more: tuple[str, ...], name: str) -> str:
        """One command of these."""
        folder = self.place / name
        folder.mkdir(parents=True)
        run = sd_scripts.Side(ROOT).run(job, folder / "run", sd_scripts.write_pictures(folder, job), more)
        speed = job.batch / statistics.median(run.seconds)
        return f"| {' '.join(more) or 'none'} | {speed:.2f} | {run.start_s:.1f} | {run.peak_gib:.2f} |"


def run(plan: Plan, out: Path | None) -> int:
    """All parts; the number of those that failed."""
    failed = 0
    for title, part in plan.parts():
        if time.monotonic() > plan.until:
            text = "No time was left."
        else:
            try:
                text = part()
            except Exception:
                failed += 1
                text = f"Failed:\n\n```\n{traceback.format_exc(limit=3)}```"
        told = f"## {title}\n\n{text}\n"
        print(told, flush=True)
        if out is not None:
            with (out / "gpu.md").open("a", encoding="utf-8", newline="\n") as page:
                page.write(told + "\n")
    return failed


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=10, help="after which no further part begins")
    parser.add_argument("--model", type=Path, help="SD v1 checkpoint; default: one with random weights, made once")
    parser.add_argument("--tiny", action="store_true", help="a small model at 128 px, batch 2, to see that the plan runs")
    parser.add_argument("--out", type=Path, help="folder of gpu.md")
    chosen = parser.parse_args(argv)
    until = time.monotonic() + 60 * chosen.minutes
    with tempfile.TemporaryDirectory() as folder:
        model = chosen.model or (_tiny_model(Path(folder)) if chosen.tiny else train_step.random_model())
        precision = "bf16" if chosen.device == "cuda" else "no"
        job = Job("lora", 512, 8, precision, 16, False, False, chosen.device, steps=15, warmup=5, model=str(Path(model).resolve()))
        if chosen.tiny:
            job = replace(job, resolution=128, batch=2, rank=4, steps=3, warmup=1)
        if chosen.out is not None:
            chosen.out.mkdir(parents=True, exist_ok=True)
        return run(Plan(job, Path(folder), until), chosen.out)


def _tiny_model(folder: Path) -> Path:
    from benchmarks.make_model import write

    write(folder / "small.safetensors", "v1", "small")
    return folder / "small.safetensors"


if __name__ == "__main__":
    sys.exit(main())
