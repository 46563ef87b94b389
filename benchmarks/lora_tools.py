"""Largest resident memory and CPU time of the LoRA tools on full-size files: each tool a process of its own, as a user starts it.

python benchmarks/lora_tools.py --folder /tmp/full [--only merge resize]      # makes the files that are missing there (5 GB and more)
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import ROOT, usage_of

RANK, CONV_RANK = 64, 16


@dataclass(frozen=True)
class Measured:
    """One tool: the largest file that it reads, its peak resident memory, CPU seconds."""

    name: str
    file_bytes: int
    peak_bytes: int
    cpu_s: float

    def row(self) -> str:
        """A line of the table in RESULTS.md."""
        ratio = self.peak_bytes / self.file_bytes
        return f"| {self.name} | {self.file_bytes / 2**30:.2f} | {self.peak_bytes / 2**30:.2f} | {ratio:.2f} | {self.cpu_s:.0f} |"


def make_lora(path: Path, model: Path, rank: int = RANK, conv_rank: int = CONV_RANK) -> None:
    """A LoRA file in fp16 of random numbers for every module of `model`, convolutions included."""
    import torch

    from library.lora.files import write_weights
    from library.surgery.checkpoint import open_checkpoint

    tensors = {}
    generator = torch.Generator().manual_seed(0)
    for key, weight in open_checkpoint(str(model), "model", v2=False).weights.items():
        if not (weight.is_plain or weight.is_extended):
            continue
        dim = conv_rank if weight.is_wide_convolution else rank
        out, *rest = weight.shape
        tensors[f"{key}.lora_down.weight"] = (torch.randn(dim, *rest, generator=generator) * 0.02).half()
        tensors[f"{key}.lora_up.weight"] = (torch.randn(out, dim, *(1,) * (len(rest) - 1), generator=generator) * 0.02).half()
        tensors[f"{key}.alpha"] = torch.tensor(float(dim))
    write_weights(path, tensors, {"ss_network_dim": str(rank)})


def measure(name: str, reads: Path, script: str, *argv: object) -> Measured:
    """Run a script of the suite and wait for it; raises RuntimeError with what it said where it fails."""
    usage = usage_of([sys.executable, ROOT / script, *argv])
    return Measured(name, reads.stat().st_size, usage.peak_bytes, usage.cpu_s)


def files(folder: Path) -> dict[str, Path]:
    """The model and LoRA that are measured, made where they are missing."""
    from benchmarks.make_model import write

    folder.mkdir(parents=True, exist_ok=True)
    model, lora = folder / "sd15-random.safetensors", folder / f"lora-rank{RANK}.safetensors"
    if not model.is_file():
        write(model, "v1", "full")
    if not lora.is_file():
        make_lora(lora, model)
    return {"model": model, "lora": lora}


def cases(folder: Path) -> dict[str, tuple]:
    """Each case: what the table calls it, the largest file it reads, the script and its arguments."""
    found = files(folder)
    model, lora, tuned = found["model"], found["lora"], folder / "tuned.safetensors"
    half = ("--save_precision", "fp16")
    merging = ("--sd_model", model, "--models", lora, "--save_to", tuned)
    return {
        "merge": ("merge_lora.py into a model, saved fp16", model, "networks/merge_lora.py", *merging, *half),
        "merge-float": ("merge_lora.py into a model, saved float32", model, "networks/merge_lora.py", *merging),
        "concat": (
            "merge_lora.py --concat, two LoRAs", lora, "networks/merge_lora.py",
            "--models", lora, lora, "--concat", "--save_to", folder / "concat.safetensors", *half,
        ),
        "resize": (
            "resize_lora.py to rank 16", lora, "networks/resize_lora.py",
            "--model", lora, "--new_rank", 16, "--save_to", folder / "resized.safetensors", *half,
        ),
        "resize-dynamic": (
            "resize_lora.py sv_fro 0.9, saved float32", lora, "networks/resize_lora.py",
            "--model", lora, "--new_rank", 64, "--dynamic_method", "sv_fro", "--dynamic_param", 0.9,
            "--save_to", folder / "resized.safetensors",
        ),
        "extract": (
            "extract_lora_from_models.py rank 16, linear layers", model, "networks/extract_lora_from_models.py",
            "--model_org", model, "--model_tuned", tuned, "--dim", 16, "--save_to", folder / "extracted.safetensors", *half,
        ),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the files are made and written")
    parser.add_argument("--only", nargs="*", help="names of cases; left out: all")
    chosen = parser.parse_args(argv)
    print("| tool | largest file read, GiB | peak GiB | peak / file | CPU s |\n|---|---|---|---|---|", flush=True)
    for name, case in cases(chosen.folder).items():
        if not chosen.only or name in chosen.only:
            print(measure(*case).row(), flush=True)


if __name__ == "__main__":
    main()
