"""CPU seconds and wait of saving a whole model, beside safetensors' own writer and ours without its care of the cache.

python benchmarks/saving.py [--rounds 3] [--model sd15.safetensors] [--note "otherwise idle"]
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import add_rows, machine

END = "<!-- end of saves -->"
SPEC = {"modelspec.sai_model_spec": "1.0.0"}  # with it a file bears the hash of its tensors, as all that a run saves do


def measured(save: Callable[[Path], None], path: Path) -> tuple[float, float]:
    """CPU seconds of this process and seconds of waiting, until the file is on the disk."""
    cpu, began = time.process_time(), time.perf_counter()
    save(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    taken = time.process_time() - cpu, time.perf_counter() - began
    path.unlink()
    return taken


def cases(model_file: Path) -> dict[str, Callable[[Path], None]]:
    """Ways to save the model: ours in both forms, ours with a cache that is left full, and safetensors' own writer."""
    import safetensors.torch
    import torch

    from library.containers import uncached
    from library.model.load import load
    from library.model.save import save_checkpoint

    model = load(str(model_file), dtype=torch.float32)
    states = [part.state_dict() for part in model.parts.values()]

    def ours(path: Path) -> None:
        save_checkpoint(model, path, metadata=SPEC)

    def ours_cached(path: Path) -> None:
        part, uncached.PART = uncached.PART, sys.maxsize
        try:
            ours(path)
        finally:
            uncached.PART = part

    def peer(path: Path) -> None:
        tensors = {f"{place}.{name}": value.half() for place, state in enumerate(states) for name, value in state.items()}
        safetensors.torch.save_file(tensors, path)

    return {
        "ours, `.safetensors` with hash": ours,
        "ours, `.ckpt`": ours,
        "ours, `.safetensors`, cache left full": ours_cached,
        "`safetensors.torch.save_file`, no hash": peer,
    }


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="SD v1 checkpoint in fp16; default: one with random weights, made for this")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts; the ways take turns")
    parser.add_argument("--note", default="", help="for the table: what else ran")
    parser.add_argument("--no_record", action="store_true", help="leave benchmarks/RESULTS.md as it is")
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="saving-") as name:
        folder = Path(name)
        file = chosen.model or folder / "model.safetensors"
        if chosen.model is None:
            from benchmarks.make_model import write

            write(file, "v1", "full")
        ways = cases(file)
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(chosen.rounds):
            for way, save in ways.items():
                found[way].append(measured(save, folder / ("saved.ckpt" if ".ckpt" in way else "saved.safetensors")))
        gib = file.stat().st_size / 2**30
    device = machine(chosen.note)
    for way, taken in found.items():
        cpu, wait = (statistics.median(values) for values in zip(*taken, strict=True))
        row = f"| {datetime.date.today().isoformat()} | {way} | {gib:.2f} | {cpu:.1f} | {wait:.1f} | {device} |"
        print(row, flush=True)
        if not chosen.no_record:
            add_rows([row], END)


if __name__ == "__main__":
    main()
