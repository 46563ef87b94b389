"""Validates during a run: measures when it is due, records the best result, and reports when more training does not help."""

from __future__ import annotations

import time
from dataclasses import dataclass

from library.console import log
from library.data.batching.buckets import FilledData
from library.training.optim.optimizer import weights_to_keep
from library.training.run_context import RunContext
from library.training.states.state import Standing
from library.training.validation.measure import Validation
from library.training.validation.validation_plan import ValidationPlan
from library.words import counted


@dataclass(frozen=True)
class Measured:
    """One validation: `loss` over all processes, and whether it is the lowest of the run."""

    loss: float
    is_best: bool


class Validator:
    """All processes make the same calls and get the same results; results are stored in `state.validated`."""

    def __init__(self, plan: ValidationPlan, data: FilledData, validation: Validation, run: RunContext) -> None:
        self.plan, self._validation, self._run = plan, validation, run
        self._state = state = run.state
        images = plan.images(data)
        if state.validated.images != images:
            if state.validated.best is not None:
                log.warning(
                    "changed since the state was saved: images, captions or noise of the validation; the best result is determined again"
                )
            state.validated = Standing(images=images)

    @property
    def enough(self) -> bool:
        """Whether training must end here."""
        return self.plan.enough(self._state.validated)

    def at_start(self) -> float:
        """Return the loss before the first update: the start of the curve, never the best result."""
        loss = self._measure()
        log.info(f"validation before the first update: loss {loss:.5f}")
        return loss

    def after(self, step: int, epochs: int, at_epoch_end: bool) -> Measured | None:
        """Measure and log if the plan says to, once per update even at an epoch's end; returns None if no validation is due."""
        before = self._state.validated
        if before.last_step == step or not self.plan.due(step, epochs, at_epoch_end):
            return None
        began = time.time()
        loss = self._measure()
        now = self._state.validated = before.after(loss, step)
        is_best = now.best_step == step
        standing = "the lowest so far" if is_best else f"lowest {now.best:.5f} after update {now.best_step}" if now.best is not None else ""
        log.info(f"validation after update {step}: loss {loss:.5f} ({standing or 'not finite'}; {time.time() - began:.1f} s)")
        if self.enough:
            log.info(
                f"--early_stop_patience {self.plan.patience}: training ends here; "
                f"{counted(now.worse, 'validation', 'validations in a row')} "
                f"did not improve on the "
                f"one after update {now.best_step}"
            )
        return Measured(loss, is_best)

    def _measure(self) -> float:
        with weights_to_keep(self._run.optimizer.optimizer):
            return self._validation.measure(self._run.accelerator, self._run.task)
