"""CPU seconds before anything is trained: --help, a launch until the model is loaded, and --dry_run from nothing and again.

python benchmarks/startup.py [--photographs 2000] [--copies 20000 100000] [--note "machine otherwise idle"]

Each is a process of its own, from the start of Python to its end. The model is a small one of random weights, so that what is measured is
what comes before reading gigabytes.
"""

from __future__ import annotations

import argparse
import datetime
import io
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import ROOT, usage_of
from benchmarks.data import photograph
from benchmarks.results import add_rows, machine

END_OF_STARTS, END_OF_DRY_RUNS = "<!-- end of starts -->", "<!-- end of dry runs -->"
PHOTOGRAPH, COPY = (1200, 800), (160, 120)  # pixels
PICTURES = 200  # of which copies are made
UNTIL_LOADED = """
import os, sys
import library.model.load as loading
from library.console import run_script
load = loading.load
def leave(*args, **settings):
    load(*args, **settings)
    os._exit(0)
loading.load = leave
import train_network
sys.exit(run_script(train_network.main, sys.argv[1:]) or 1)
"""
BARE = """
import sys
from PIL import Image
from pathlib import Path
for path in sorted(Path(sys.argv[1]).glob("*.jpg")):
    with Image.open(path) as image:
        if sys.argv[2] == "small":
            image.draft("RGB", (64, 64))
        image.load()
"""


@dataclass(frozen=True)
class DryRun:
    """CPU seconds over one folder."""

    first: float
    bare: float
    whole: float
    second: float


def command(folder: Path, images: Path, *more: str) -> list[object]:
    """The options of a run on these images, with a small model in `folder`."""
    from benchmarks.make_model import write

    model, config = folder / "model.safetensors", folder / f"{images.name}.toml"
    if not model.is_file():
        write(model, "v1", "small")
    text = "[[datasets]]\nresolution = 512\nenable_bucket = true\nbatch_size = 4\n"
    text += f"[[datasets.subsets]]\nimage_dir = '{images.as_posix()}'\ncaption_extension = '.txt'\n"
    config.write_text(text, encoding="utf-8")
    options = ["--pretrained_model_name_or_path", model, "--dataset_config", config, "--network_module", "networks.lora"]
    return [*options, "--output_dir", folder / "out", "--max_train_epochs", "1", *more]


def write_images(folder: Path, count: int, pictures: int, size: tuple[int, int]) -> Path:
    """`count` JPEGs of an hour ago, `pictures` of them different, with captions of about 100 letters."""
    folder.mkdir(parents=True)
    files = []
    old = time.time_ns() - 3600 * 10**9
    for n in range(count):
        if n < pictures:
            memory = io.BytesIO()
            photograph(n, size).save(memory, "JPEG", quality=85)
            files.append(memory.getvalue())
        image, caption = folder / f"image_{n:06}.jpg", folder / f"image_{n:06}.txt"
        image.write_bytes(files[n % pictures])
        if pictures == count:
            files[n] = b""
        caption.write_text(f"a photo of thing {n}, " + "grass, blue sky, from above, " * 3, encoding="utf-8")
        for path in (image, caption):
            os.utime(path, ns=(old, old))
    return folder


def starts(folder: Path, rounds: int) -> list[float]:
    """CPU seconds of --help, of a launch until the model is loaded, and of importing torch: medians of rounds in which they take turns."""
    options = command(folder, write_images(folder / "few", 8, 8, (256, 256)))
    run = [sys.executable, "-c", UNTIL_LOADED, *options]
    cases = ([sys.executable, ROOT / "train_network.py", "--help"], run, [sys.executable, "-c", "import torch"])
    seconds = [[usage_of(case, ACCELERATE_USE_CPU="1").cpu_s for case in cases] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*seconds, strict=True)]


def dry_run(folder: Path, images: Path, rounds: int) -> DryRun:
    """The report on a folder without an index, then with it; and decoding alone before and after the first, of which the mean counts."""

    def bare(how: str) -> float:
        return usage_of([sys.executable, "-c", BARE, images, how]).cpu_s

    report = [sys.executable, ROOT / "train_network.py", *command(folder, images, "--dry_run")]
    before = bare("small")
    first = usage_of(report).cpu_s
    after, whole = bare("small"), bare("whole")
    second = statistics.median(usage_of(report).cpu_s for _ in range(rounds))
    return DryRun(first, (before + after) / 2, whole, second)


def dry_runs(folder: Path, photographs: int, copies: list[int], rounds: int) -> Iterator[tuple[str, DryRun]]:
    """Each folder by what is in it."""
    cases = (
        [(f"{photographs:,} photographs of {PHOTOGRAPH[0]}×{PHOTOGRAPH[1]}", photographs, photographs, PHOTOGRAPH)] if photographs else []
    )
    cases += [(f"{count:,} copies of {COPY[0]}×{COPY[1]}", count, PICTURES, COPY) for count in copies]
    for number, (name, count, pictures, size) in enumerate(cases):
        images = write_images(folder / f"images{number}", count, pictures, size)
        yield name, dry_run(folder, images, rounds)
        shutil.rmtree(images)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=2000, help="different images of the first folder; 0: none")
    parser.add_argument("--copies", type=int, nargs="*", default=[20_000, 100_000], help="images of the further folders")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts; 0: leave the starts out, and look again once")
    parser.add_argument("--note", default="", help="for the table: what else ran")
    parser.add_argument("--no_record", action="store_true", help="leave benchmarks/RESULTS.md as it is")
    chosen = parser.parse_args(argv)
    date = datetime.date.today().isoformat()
    device = machine(chosen.note)
    folder = Path(tempfile.mkdtemp(prefix="startup-"))
    try:
        if chosen.rounds:
            shown = " | ".join(f"{seconds:.2f}" for seconds in starts(folder, chosen.rounds))
            _tell(f"| {date} | {shown} | {device} |", END_OF_STARTS, chosen.no_record)
        for name, one in dry_runs(folder, chosen.photographs, chosen.copies, max(1, chosen.rounds // 2)):
            figures = f"{one.first:.1f} | {one.bare:.1f} | {one.first / one.bare:.2f} | {one.whole:.1f} | {one.second:.1f}"
            _tell(f"| {date} | {name} | {figures} | {device} |", END_OF_DRY_RUNS, chosen.no_record)
    finally:
        shutil.rmtree(folder)


def _tell(row: str, end: str, only_print: bool) -> None:
    """Print the row, and put it at the end of its table."""
    print(row, flush=True)
    if not only_print:
        add_rows([row], end)


if __name__ == "__main__":
    main()
