"""Whole commands of this suite beside the same commands of an sd-scripts checkout: cost of an update, start, end, memory, losses, buckets.

python benchmarks/train_step.py --sd_scripts ../sd-scripts --method ti --resolution 128 --batch 2 --steps 3 --rounds 3

Both sides run the script of the same name with the same options on the same pictures. What an update takes is read off the outside: each
time the bar on standard error counts one more, the CPU seconds of the process are noted, so that nothing of ours runs in the peer.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.rounds import ROOT, Job

SHAPES = ((3, 2), (2, 3), (1, 1), (4, 3))  # of the pictures, so that there is more than one bucket
PICTURES = 16
COUNTED = re.compile(r"(?:steps|updates):[^\r\n]*?\s(\d+)/\d+ \[")  # sd-scripts and this suite
METHODS = {
    "lora": ("train_network.py", ("--network_module", "networks.lora", "--network_alpha", "1")),
    "full": ("train_db.py", ()),
    "ti": ("train_textual_inversion.py", ("--token_string", "sks", "--init_word", "dog", "--num_vectors_per_token", "1")),
}


@dataclass(frozen=True)
class Stamp:
    """Seconds and CPU seconds of a process when the bar had counted `updates`."""

    updates: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Run:
    """One whole command. CPU seconds of an update (median after the warm-up), until the first update begins, and after the last; peak
    resident GiB; the loss of each update; buckets as the file's metadata tells them (None: it has none)."""

    update_s: float
    start_s: float
    end_s: float
    seconds: tuple[float, ...]  # by the clock, of each update after the warm-up
    peak_gib: float
    losses: tuple[float, ...]
    buckets: Any


@dataclass(frozen=True)
class Side:
    """A folder with the scripts, and the Python that runs them."""

    folder: Path
    python: str = sys.executable

    def run(self, job: Job, place: Path, config: Path, more: Sequence[str]) -> Run:
        """Run the job's command; its output goes into `place`, which is made."""
        script, options = _command(job, place, config)
        place.mkdir(parents=True)
        paths = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": paths, "ACCELERATE_USE_CPU": "1" if job.device == "cpu" else "0"}
        argv = [self.python, str(self.folder / script), *options, *more]
        with (place / "stdout.log").open("wb") as output:
            process = subprocess.Popen(argv, cwd=self.folder, env=environment, stdout=output, stderr=subprocess.PIPE)
            assert process.stderr is not None
            stamps, peak, told = _watch(process, process.stderr)
        if process.returncode or not stamps:
            raise RuntimeError(f"{argv[1]} ended with exit code {process.returncode}: {told[-800:]}")
        return Run(*_costs(stamps, job.warmup), _seconds(stamps, job.warmup), peak, _losses(place / "logs"), _buckets(place))


def compare(job: Job, peer: Side, rounds: int, more: Sequence[str] = ()) -> tuple[list[Run], list[Run]]:
    """`rounds` runs of this suite and of the peer in turns; who begins changes from round to round."""
    folder = Path(tempfile.mkdtemp(prefix="beside-"))
    sides = (Side(ROOT), peer)
    done: tuple[list[Run], list[Run]] = ([], [])
    try:
        config = write_pictures(folder, job)
        for number in range(rounds):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                done[side].append(sides[side].run(job, folder / f"{number}-{side}", config, more))
    finally:
        shutil.rmtree(folder)
    ours, theirs = done[0][0], done[1][0]
    assert len(ours.losses) == len(theirs.losses), f"{len(ours.losses)} and {len(theirs.losses)} losses"
    assert None in (ours.buckets, theirs.buckets) or ours.buckets == theirs.buckets, f"other buckets: {ours.buckets} and {theirs.buckets}"
    return done


def text(ours: list[Run], theirs: list[Run]) -> str:
    """The comparison as lines of a Markdown table."""

    def row(name: str, field: str, form: str) -> str:
        pairs = [(getattr(own, field), getattr(their, field)) for own, their in zip(ours, theirs, strict=True)]
        own, their = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        return f"| {name} | {own:{form}} | {their:{form}} | {ratio:.2f} |"

    losses = [statistics.mean(run.losses[n] for run in side for n in range(len(run.losses))) for side in (ours, theirs)]
    buckets = "equal" if ours[0].buckets is not None and ours[0].buckets == theirs[0].buckets else "not told by the files"
    return "\n".join([
        "| | ours | sd-scripts | ratio |", "|---|---|---|---|",
        row("CPU s/update", "update_s", ".3g"), row("CPU s until the first update", "start_s", ".3g"),
        row("CPU s after the last", "end_s", ".3g"), row("peak GiB", "peak_gib", ".2f"),
        f"| mean loss | {losses[0]:.4f} | {losses[1]:.4f} | {losses[0] / losses[1]:.2f} |", f"| buckets | {buckets} | | |",
    ])  # fmt: skip


def write_pictures(folder: Path, job: Job) -> Path:
    """Pictures of several shapes with captions; the dataset config."""
    from benchmarks.data import photograph

    images = folder / "images"
    images.mkdir()
    for number in range(PICTURES):
        wide, high = SHAPES[number % len(SHAPES)]
        photograph(number, (wide * 160, high * 160)).save(images / f"{number:02}.png")
        (images / f"{number:02}.txt").write_text(f"a photo of sks thing {number}", encoding="utf-8")
    config = folder / "pictures.toml"
    sizes = f"min_bucket_reso = 64\nmax_bucket_reso = {job.resolution * 2}\n"
    general = (
        f"[general]\nresolution = {job.resolution}\nenable_bucket = true\n{sizes}batch_size = {job.batch}\ncaption_extension = '.txt'\n"
    )
    config.write_text(
        f"{general}[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{images.as_posix()}'\nnum_repeats = 1\n", encoding="utf-8"
    )
    return config


def _command(job: Job, place: Path, config: Path) -> tuple[str, list[str]]:
    script, own = METHODS[job.method]
    options = ["--pretrained_model_name_or_path", job.model, "--dataset_config", str(config), "--output_dir", str(place / "out")]
    options += ["--output_name", "x", "--save_model_as", "safetensors", "--save_precision", "fp16", "--mixed_precision", job.precision]
    options += ["--max_train_steps", str(job.warmup + job.steps), "--learning_rate", str(job.learning_rate), "--seed", "1", "--sdpa"]
    options += ["--max_grad_norm", str(job.max_grad_norm), "--cache_latents", "--logging_dir", str(place / "logs"), *own]
    options += ["--gradient_checkpointing"] * job.gradient_checkpointing
    if job.method == "lora":
        options += ["--network_dim", str(job.rank), *["--network_train_unet_only"] * (not job.text_encoder)]
    if job.method == "full" and not job.text_encoder:
        options += ["--stop_text_encoder_training", "-1"]
    return script, options


def _watch(process: subprocess.Popen[bytes], errors: IO[bytes]) -> tuple[list[Stamp], float, str]:
    """Stamps of the bar until the process ends (the last one is its end), its peak memory in GiB, and what it wrote."""
    seen, began = psutil.Process(process.pid), time.perf_counter()
    stamps: list[Stamp] = []
    peak, told = 0, ""
    for piece in _pieces(errors):
        told = (told + piece)[-20_000:]
        used = _usage(seen)
        if used is None:
            continue
        peak = max(peak, used[1])
        counted = COUNTED.findall(piece)
        if counted and (not stamps or int(counted[-1]) > stamps[-1].updates):
            stamps.append(Stamp(int(counted[-1]), time.perf_counter() - began, used[0]))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if stamps:
        stamps.append(Stamp(stamps[-1].updates, time.perf_counter() - began, usage.ru_utime + usage.ru_stime))
    return stamps, peak / 2**30, told  # the system's own ru_maxrss begins at what the parent had


def _pieces(errors: IO[bytes]) -> Iterator[str]:
    """What comes in, as soon as it comes."""
    while piece := os.read(errors.fileno(), 65536):
        yield piece.decode("utf-8", "replace")


def _usage(process: psutil.Process) -> tuple[float, int] | None:
    """CPU seconds and resident bytes so far; None where the process has ended."""
    try:
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return None


def _costs(stamps: list[Stamp], warmup: int) -> tuple[float, float, float]:
    """CPU seconds of an update, until the first, after the last. Stamps are those of 0, 1, … updates and of the end."""
    *counted, end = stamps
    first = counted[0]
    assert first.updates == 0, "the bar did not begin at 0"
    later = [stamp for stamp in counted if stamp.updates >= warmup]
    assert len(later) > 1, "fewer updates were counted than the warm-up has"
    each = [(b.cpu_seconds - a.cpu_seconds) / (b.updates - a.updates) for a, b in itertools.pairwise(later)]
    return statistics.median(each), first.cpu_seconds, end.cpu_seconds - counted[-1].cpu_seconds


def _seconds(stamps: list[Stamp], warmup: int) -> tuple[float, ...]:
    """How long each update after the warm-up took."""
    later = [stamp for stamp in stamps[:-1] if stamp.updates >= warmup]
    return tuple((b.seconds - a.seconds) / (b.updates - a.updates) for a, b in itertools.pairwise(later))


def _losses(folder: Path) -> tuple[float, ...]:
    """The loss of each update as TensorBoard has it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(path)).Reload()
        names = [name for name in ("loss/current", "loss") if name in events.Tags()["scalars"]]
        if names:
            return tuple(event.value for event in events.Scalars(names[0]))
    raise RuntimeError(f"no losses below {folder}")


def _buckets(place: Path) -> Any:
    """Sizes and counts of the buckets out of the saved network."""
    from safetensors import safe_open

    path = place / "out" / "x.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    datasets = json.loads(metadata.get("ss_datasets", "null"))
    infos = [one.get("bucket_info") for one in datasets] if datasets else [json.loads(metadata.get("ss_bucket_info", "null"))]
    buckets = [sorted((tuple(bucket["resolution"]), bucket["count"]) for bucket in info["buckets"].values()) for info in infos if info]
    return buckets or None
