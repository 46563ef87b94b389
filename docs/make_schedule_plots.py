"""Draws the pictures in docs/images/schedules: the learning rate over a run of 100 updates for each --lr_scheduler.

python docs/make_schedule_plots.py        (needs matplotlib: pip install matplotlib)
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from library.training.optim.lr_schedule import BY_NAME, make_schedule

FOLDER = Path(__file__).with_name("images") / "schedules"
UPDATES, WARMUP = 100, 10
ARGS = {"piecewise_constant": ["step_rules=1:40,0.3:75,0.1"]}
FIGURES = {  # drawn in one picture, with their flags
    "constant": [{}],
    "constant_with_warmup": [{}],
    "linear": [{}],
    "cosine": [{}],
    "cosine_with_restarts": [{"cycles": 1}, {"cycles": 3}],
    "polynomial": [{"power": 0.5}, {"power": 1.0}, {"power": 2.0}],
    "inverse_sqrt": [{}, {"timescale": 50}],
    "cosine_with_min_lr": [{}, {"min_ratio": 0.4}],
    "warmup_stable_decay": [{}, {"decay": 40}, {"decay": 40, "min_ratio": 0.2}],
    "piecewise_constant": [{}],
}
FLAGS = {
    "cycles": "--lr_scheduler_num_cycles",
    "power": "--lr_scheduler_power",
    "timescale": "--lr_scheduler_timescale",
    "min_ratio": "--lr_scheduler_min_lr_ratio",
    "decay": "--lr_decay_steps",
}


def rates(name: str, figures: dict[str, float]) -> list[float]:
    """The rate in each update, as a share of --learning_rate."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = WARMUP if BY_NAME[name].warmup else 0
    schedule = make_schedule(optimizer, name, updates=UPDATES, warmup=warmup, args=ARGS.get(name), **figures).schedule
    found = []
    for _ in range(UPDATES):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def main() -> None:
    """Write one PNG a schedule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, kinds in FIGURES.items():
        picture, axes = pyplot.subplots(figsize=(4.8, 2.4), dpi=90, layout="constrained")
        for figures in kinds:
            label = " ".join(f"{FLAGS[key]} {value:g}" for key, value in figures.items()) or "as it is"
            axes.plot(range(1, UPDATES + 1), rates(name, figures), label=label, drawstyle="steps-mid" if name in ARGS else "default")
        axes.set(title=name, xlabel="update", ylabel="share of the rate", ylim=(-0.03, 1.08), xlim=(0, UPDATES + 1))
        axes.grid(alpha=0.3)
        if len(kinds) > 1:
            axes.legend(fontsize=6.5)
        picture.savefig(FOLDER / f"{name}.png", metadata={"Software": None})
        pyplot.close(picture)


if __name__ == "__main__":
    main()
