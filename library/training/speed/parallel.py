"""Which gradients the processes of a run wait for."""

from __future__ import annotations

from library.model.bundle import StableDiffusion
from library.training.run_context import RunStart


def all_are_used(run: RunStart, model: StableDiffusion) -> bool:
    """Return whether every remaining update gives each trained weight a gradient, so that DDP does not have to look for unused ones.

    False if the text encoder stops training or its last layers are skipped, and if a method leaves out parts at random.
    """
    method, first, last = run.method, run.state.step, run.inputs.plan.updates - 1
    if not method.uses_all_weights():
        return False
    if not method.trains_text_encoder(first):
        return True
    return method.trains_text_encoder(last) and model.family.clip_skip(run.options.model.clip_skip) in (None, 1)
