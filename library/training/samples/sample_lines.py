"""The samples of a run as a line of its plan: how many, when, and how large."""

from __future__ import annotations

from collections.abc import Sequence

from library.data.config.blueprint import AS_PREPARED, Size
from library.pictures.prompt_files import SamplePrompt
from library.training.planning.plan import RunPlan, Start
from library.training.samples.samples import Samples
from library.words import counted, named


def sample_lines(samples: Samples | None, plan: RunPlan, start: Start | None, trained: Sequence[Size] = ()) -> list[str]:
    """One line, or none where no samples are generated. A run that continues (`start`) counts what is left.

    `trained` are the resolutions of the datasets; a prompt of the default size that differs from all of them is pointed out.
    """
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
    count = f"{times * prompts} = {counted(prompts, 'prompt')} × {times} ({', '.join(when)})"
    return [f"samples: {count}, {named(sizes)} px{_hint(samples.prompts, trained)}"]


def _hint(prompts: Sequence[SamplePrompt], trained: Sequence[Size]) -> str:
    """Whether a prompt has probably no size although training has another one than the default."""
    default, known = (SamplePrompt.width, SamplePrompt.height), [size for size in trained if size != AS_PREPARED]
    if not known or default in known or default not in {(prompt.width, prompt.height) for prompt in prompts}:
        return ""
    width, height = known[0]
    return f"; training is at {width}×{height} px: for samples of that size add --w {width} --h {height} to each prompt"


def _moments(every: int | None, done: int, last: int) -> int:
    """How many multiples of `every` come after `done`, up to `last`."""
    return 0 if every is None else last // every - done // every


def _every(number: int | None, noun: str) -> str:
    return f"every {noun}" if number == 1 else f"every {number} {noun}s"
