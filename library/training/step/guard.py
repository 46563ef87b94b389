"""Handles a loss, gradient or weight that is no longer a finite number: `--on_nan stop|skip|rollback`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

from library.console import log
from library.errors import Problem, UserError, coded
from library.training.processes import Processes
from library.training.states.good_states import GoodStates
from library.training.states.snapshot import held_tensors
from library.training.states.state import TrainState
from library.training.step.pending import MOST_IMAGES, Pending, Shown

SNAPSHOT_EVERY = 50  # updates
MOST_IN_A_ROW = 20  # dropped updates before the run ends
MOST_LEFT_OUT = 8  # images, or a quarter of all
_REMEDY = "lower --learning_rate, use --mixed_precision bf16 instead of fp16, or check these images"
_OTHERS = "--on_nan skip drops such updates, --on_nan rollback also excludes the images"


class WentBack(Exception):
    """The run went back to an earlier update and continues from there."""


class Guard:
    """Checks every update.

    `stop` reads the figures one update later, when they have arrived; `skip` and `rollback` need them before the weights move, so each of
    their updates waits for the device. An fp16 overflow that the gradient scaler handles by skipping the update is ignored as long as the
    scale is at least 1.
    """

    def __init__(self, policy: str, processes: Processes, state: TrainState, good_states: GoodStates, left_out: LeftOutImages) -> None:
        """`policy` is --on_nan; `state` is the one that the loop updates."""
        self.policy = policy
        self._processes, self._state, self._good_states, self._left_out = processes, state, good_states, left_out
        self._last: Pending | None = None  # the last update that moved the weights
        self._skipped_in_a_row = 0

    def begin(self) -> None:
        """Call this before the first update."""
        if self.policy == "rollback":
            self._good_states.remember(self._state)

    def refuses(self, pending: Pending) -> bool:
        """Return whether the update must be dropped, and log why. Raises UserError if continuing cannot help."""
        if self.policy == "stop":
            return False
        figures = pending.read()
        bad_gradient = not math.isfinite(figures.gradient) and self._processes.scaler is None
        if math.isfinite(figures.loss) and not bad_gradient:
            self._last, self._skipped_in_a_row = pending, 0
            return False
        what, images = self._blamed(pending)
        log.warning(f"update {pending.step}: {what}; --on_nan {self.policy}: the update is dropped")
        for line in _lines(images):
            log.warning(f"    {line}")
        self._skipped_in_a_row += 1
        if self.policy == "skip":
            if not self.weights_are_finite():
                raise UserError(
                    coded(
                        "TRAIN-002",
                        f"update {pending.step}: {what}, and weights are not finite either, which skipping cannot fix: {self._way_back()}",
                    )
                )
            if self._skipped_in_a_row >= MOST_IN_A_ROW:
                raise UserError(
                    coded("TRAIN-004", f"update {pending.step}: the last {self._skipped_in_a_row} updates were all dropped; {_REMEDY}")
                )
        return True

    def go_back(self, pending: Pending) -> None:
        """Call this after a refused update: with `rollback`, restore finite weights, exclude the update's images and raise WentBack."""
        if self.policy != "rollback":
            return
        if self.weights_are_finite():
            _, images = self._blamed(pending)
            self._left_out.add(images, self._state)
        else:
            self._restore()
        raise WentBack

    def look_at_weights(self, saving: bool) -> None:
        """Call this after each update: weights that are not finite are never saved, neither in a file (`saving`) nor in memory.

        Raises WentBack if the run went back instead, UserError if the policy does not allow that.
        """
        due = self.policy == "rollback" and self._state.step % SNAPSHOT_EVERY == 0
        if not saving and not due:
            return
        if self.weights_are_finite():
            if due:
                self._good_states.remember(self._state)
            return
        if self.policy == "rollback":
            log.warning(f"update {self._state.step}: weights are no longer finite; --on_nan rollback goes back")
            self._restore()
            raise WentBack
        raise UserError(
            coded("TRAIN-002", f"update {self._state.step}: weights are no longer finite and are not saved; {self._way_back()}")
        )

    def check(self, pending: Pending) -> None:
        """Call this once the figures have arrived: `stop` raises UserError with images, captions and timesteps of bad ones."""
        figures = pending.read()
        scaler = self._processes.scaler
        if scaler is not None and pending.overflow and math.isfinite(figures.loss):
            if scaler.get_scale() < 1.0:
                raise UserError(
                    coded(
                        "TRAIN-003",
                        f"update {pending.step}: fp16 cannot represent the gradients at any scale, so nothing is trained any more; "
                        "use --mixed_precision bf16 or no, or lower --learning_rate",
                    )
                )
            return
        if self.policy == "stop" and not figures.finite:
            what, images = self._blamed(pending)
            raise UserError(
                coded("TRAIN-001", f"update {pending.step}: {what}. Nothing is saved from here on; {_REMEDY}; {_OTHERS}; the images were:"),
                *_lines(images),
            )

    def weights_are_finite(self) -> bool:
        """Return whether all numbers that are trained and saved are finite."""
        modules = self._good_states.parts.method.modules()
        return all_finite(tensor for module in modules for tensor in held_tensors(module).values())

    def _blamed(self, pending: Pending) -> tuple[str, list[Shown]]:
        """Return what is wrong, and the images to blame on all processes: those whose own loss is not finite, otherwise all."""
        figures = pending.read()
        what = f"the loss is {figures.loss}" if not math.isfinite(figures.loss) else f"the norm of the gradients is {figures.gradient}"
        images = self._images_everywhere(pending)
        return what, [image for image in images if not image.finite] or images

    def _images_everywhere(self, pending: Pending) -> list[Shown]:
        """Return the images of the update on all processes."""
        images = pending.group.images()
        if self._processes.num_processes > 1:
            images = gather_object(images)
        return images

    def _restore(self) -> None:
        """Restore the newest good state, and exclude the images of the update that broke the weights."""
        state, broken, left_out = self._state, self._last, self._state.left_out
        if broken is None:
            raise UserError(
                coded("TRAIN-002", f"update {state.step + 1}: weights are not finite before the first update; {self._way_back()}")
            )
        where = self._good_states.restore(state)
        if where is None:
            raise UserError(
                coded(
                    "TRAIN-002",
                    f"update {state.step + 1}: weights are no longer finite, and there is no state to go back to; add --save_state",
                )
            )
        self._last = None
        state.left_out = tuple(sorted({*state.left_out, *left_out}))
        log.warning(f"went back to update {state.step} ({where})")
        self._left_out.add(self._images_everywhere(broken), state)

    def _way_back(self) -> str:
        folder = self._good_states.newest()
        return f"lower --learning_rate and continue with --resume {folder}" if folder else "start again with a lower --learning_rate"


class LeftOutImages:
    """Images that `rollback` excludes from training: `names[i]` identifies record i permanently, `leave_out(names)` informs the sampler."""

    def __init__(self, names: Sequence[str], leave_out: Callable[[Sequence[str]], None]) -> None:
        self._names, self._leave_out = names, leave_out

    def add(self, images: Iterable[Shown], state: TrainState) -> None:
        """Exclude `images` from now on and record that in `state`. Raises UserError if they are too many to be the cause."""
        names = {self._names[image.key] for image in images}
        state.left_out = tuple(sorted({*state.left_out, *names}))
        most = max(MOST_LEFT_OUT, len(self._names) // 4)
        if len(state.left_out) > most:
            raise UserError(
                coded(
                    "TRAIN-004",
                    f"update {state.step + 1}: {len(state.left_out)} of {len(self._names)} images would be excluded, and that many are "
                    "unlikely to be the cause: lower --learning_rate, or use --mixed_precision bf16 or no",
                )
            )
        self._leave_out(state.left_out)
        log.warning(f"excluded from now on, others of their size replace them: {', '.join(sorted(names))}")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all numbers of all floating point tensors are finite, with a single synchronization with the device."""
    finite = [torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point()]
    return not finite or bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all())


def _lines(images: Sequence[Shown]) -> list[Problem]:
    more = [f"… and {len(images) - MOST_IMAGES} more"] if len(images) > MOST_IMAGES else []
    return [coded("TRAIN-001", line) for line in [image.text for image in images[:MOST_IMAGES]] + more]
