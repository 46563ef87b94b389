"""The samples of a run as a line of its plan: how many, when, and how large."""

from __future__ import annotations

from library.training.planning.plan import RunPlan, Start
from library.training.samples.samples import Samples
from library.words import counted, named


def sample_lines(samples: Samples | None, plan: RunPlan, start: Start | None) -> list[str]:
    """One line, or none where no samples are generated. A run that continues (`start`) counts what is left."""
    if samples is None or not samples.prompts:
        return []
    given, done = samples.plan, start or Start(0, 0, 0)
    when = ["before training"] if samples.due_at_first(done.step) else []
    if given.every_n_epochs is not None:
        moments, what = _moments(given.every_n_epochs, done.epoch, plan.epochs), _every(given.every_n_epochs, "epoch")
    else:
        moments, what = _moments(given.every_n_steps, done.step, plan.updates), _every(given.every_n_steps, "update")
    times = moments + len(when)
    when += [f"after {what}"] if moments else []
    sizes = list(dict.fromkeys(f"{prompt.width}×{prompt.height}" for prompt in samples.prompts))
    prompts = len(samples.prompts)
    if not times:
        return ["samples: none, since the run ends before the first are due"]
    return [f"samples: {times * prompts} = {counted(prompts, 'prompt')} × {times} ({', '.join(when)}), {named(sizes)} px"]


def _moments(every: int | None, done: int, last: int) -> int:
    """How many multiples of `every` come after `done`, up to `last`."""
    return 0 if every is None else last // every - done // every


def _every(number: int | None, noun: str) -> str:
    return f"every {noun}" if number == 1 else f"every {number} {noun}s"
