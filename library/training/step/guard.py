"""What is done where a loss, a gradient or a weight is no longer a finite number: `--on_nan stop|skip|rollback`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from library.console import log
from library.errors import UserError
from library.method import Method
from library.training.states.saved_state import read_own
from library.training.states.snapshot import Snapshot, held_tensors, move, weights_bytes
from library.training.states.state import TrainState
from library.training.step.pending import MOST_IMAGES, Pending, Shown

SNAPSHOT_EVERY = 50  # updates
MOST_IN_A_ROW = 20  # updates left out before the run is given up
MOST_LEFT_OUT = 8  # images, or a quarter of all
LARGEST_SNAPSHOT = 1 << 30  # bytes of weights; of a whole model only states on the disk are gone back to
_REMEDY = "lower --learning_rate, use --mixed_precision bf16 instead of fp16, or look at these images"
_OTHERS = "--on_nan skip leaves such updates out, --on_nan rollback the images too"


class Guard:
    """Looks at every update. `stop` reads figures when they have arrived, an update later; `skip` and `rollback` have to know them
    before the weights move, so each of their updates waits for the device.

    An overflow of fp16 that the gradient scaler handles by leaving the update out is none of this, as long as its scale stays over 1.
    """

    def __init__(
        self,
        policy: str,
        *,
        accelerator: Any,
        method: Method,
        optimizer: Any,
        schedule: Any,
        leave_out: Callable[[Sequence[str]], None],
        keys: Sequence[str],
        saved_state: Callable[[], Path | None],
        load: Callable[[Path], TrainState],
        also: Sequence[Tensor] = (),
    ) -> None:
        """`keys[i]` names record i for good, `leave_out(keys)` tells the sampler; `saved_state()` is the newest good one on the disk (asked
        of the main process), and `load(folder)` restores all but the counters from it and returns those. `also`: see Snapshot."""
        self.policy = policy
        self._accelerator, self._method, self._optimizer, self._schedule = accelerator, method, optimizer, schedule
        self._leave_out, self._keys, self._saved_state, self._load, self._also = leave_out, keys, saved_state, load, also
        self._snapshot: Snapshot | None = None
        self._last: Pending | None = None  # the update that moved the weights last
        self._skipped_in_a_row = 0

    def begin(self, state: TrainState) -> None:
        """Called before the first update."""
        self._remember(state)

    def refuses(self, pending: Pending, state: TrainState) -> bool:
        """Whether no update may be made of these figures; says what is wrong. Raises UserError where going on cannot help."""
        if self.policy == "stop":
            return False
        figures = pending.read()
        bad_gradient = not math.isfinite(figures.gradient) and self._accelerator.scaler is None
        if math.isfinite(figures.loss) and not bad_gradient:
            self._last, self._skipped_in_a_row = pending, 0
            return False
        what, images = self._told(pending)
        log.warning(f"update {pending.step}: {what}; --on_nan {self.policy}: it is left out")
        for line in _lines(images):
            log.warning(f"    {line}")
        self._skipped_in_a_row += 1
        if self.policy == "skip":
            if not self.weights_are_finite():
                raise UserError(
                    f"update {pending.step}: {what}, and weights are not finite either, which no skipping mends: {self._way_back()}"
                )
            if self._skipped_in_a_row >= MOST_IN_A_ROW:
                raise UserError(f"update {pending.step}: the last {self._skipped_in_a_row} updates were all left out; {_REMEDY}")
        return True

    def goes_back(self, pending: Pending, state: TrainState) -> bool:
        """After a refused update: with `rollback`, make good the damage and leave its images out from here on; `state` is moved."""
        if self.policy != "rollback":
            return False
        if self.weights_are_finite():
            _, images = self._told(pending)
            self._drop(state, images)
        else:
            self._restore(state)
        return True

    def holds(self, state: TrainState, saving: bool) -> bool:
        """Asked after each update: whether its weights may be kept, in a file or in memory. False when the run went back instead.

        Raises UserError for weights that are not finite where the policy is not to go back.
        """
        due = self.policy == "rollback" and state.step % SNAPSHOT_EVERY == 0
        if not saving and not due:
            return True
        if self.weights_are_finite():
            if due:
                self._remember(state)
            return True
        if self.policy == "rollback":
            log.warning(f"update {state.step}: weights are no longer finite numbers; --on_nan rollback goes back")
            self._restore(state)
            return False
        raise UserError(f"update {state.step}: weights are no longer finite numbers and are not saved; {self._way_back()}")

    def check(self, pending: Pending) -> None:
        """For `stop`, once the figures are there: raises UserError with images, captions and timesteps where they are not finite."""
        figures = pending.read()
        scaler = self._accelerator.scaler
        if scaler is not None and pending.overflow and math.isfinite(figures.loss):
            if scaler.get_scale() < 1.0:
                raise UserError(
                    f"update {pending.step}: fp16 cannot hold the gradients at any scale, so nothing is trained any more; "
                    "use --mixed_precision bf16 or no, or lower --learning_rate"
                )
            return
        if self.policy == "stop" and not figures.finite:
            what, images = self._told(pending)
            raise UserError(
                f"update {pending.step}: {what}. Nothing was saved from here on; {_REMEDY}; {_OTHERS}; the images were:", *_lines(images)
            )

    def weights_are_finite(self) -> bool:
        """Whether every number that is trained and saved is finite."""
        return all_finite(tensor for module in self._method.modules() for tensor in held_tensors(module).values())

    def _told(self, pending: Pending) -> tuple[str, list[Shown]]:
        """What is wrong, and the images to blame on all processes: those whose own loss is not finite, or else all."""
        figures = pending.read()
        what = f"the loss is {figures.loss}" if not math.isfinite(figures.loss) else f"the norm of the gradients is {figures.gradient}"
        images = pending.images()
        if self._accelerator.num_processes > 1:
            images = gather_object(images)
        return what, [image for image in images if not image.finite] or images

    def _drop(self, state: TrainState, images: Iterable[Shown]) -> None:
        names = {self._keys[image.key] for image in images}
        state.left_out = tuple(sorted({*state.left_out, *names}))
        most = max(MOST_LEFT_OUT, len(self._keys) // 4)
        if len(state.left_out) > most:
            raise UserError(
                f"update {state.step + 1}: {len(state.left_out)} of {len(self._keys)} images would be left out, and that many are hardly "
                "at fault: lower --learning_rate, or use --mixed_precision bf16 or no"
            )
        self._leave_out(state.left_out)
        log.warning(f"left out from here on, others of their size take their places: {', '.join(sorted(names))}")

    def _restore(self, state: TrainState) -> None:
        """Back to the newest good state; the images of the update that broke the weights are left out."""
        broken, left_out = self._last, state.left_out
        if broken is None:
            raise UserError(f"update {state.step + 1}: weights are not finite before the first update; {self._way_back()}")
        folder = self._newest()
        if self._snapshot is not None and (folder is None or self._snapshot.state.step >= _steps_of(folder)):
            self._snapshot.restore(state)
            where = "in memory"
        elif folder is not None:
            move(state, self._load(folder))
            where = str(folder)
        else:
            raise UserError(f"update {state.step + 1}: weights are no longer finite, and there is no state to go back to; add --save_state")
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        self._method.go_on(state.step)
        self._last = None
        state.left_out = tuple(sorted({*state.left_out, *left_out}))
        log.warning(f"went back to update {state.step} ({where})")
        images = broken.images()
        self._drop(state, gather_object(images) if self._accelerator.num_processes > 1 else images)

    def _newest(self) -> Path | None:
        found = [self._saved_state() if self._accelerator.is_main_process else None]
        broadcast_object_list(found)
        return found[0]

    def _remember(self, state: TrainState) -> None:
        if self.policy == "rollback" and weights_bytes(self._method.modules()) <= LARGEST_SNAPSHOT:
            scaler = self._accelerator.scaler
            self._snapshot = Snapshot(self._method.modules(), self._optimizer, self._schedule, scaler, state, self._also)

    def _way_back(self) -> str:
        folder = self._newest()
        return f"lower --learning_rate and go on with --resume {folder}" if folder else "start again with a lower --learning_rate"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers of all floating point tensors are finite: one look at the device for all of them."""
    found = [torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack([flag.to(found[0].device) for flag in found]).all())


def _steps_of(folder: Path) -> int:
    return read_own(folder).state.step


def _lines(images: Sequence[Shown]) -> list[str]:
    more = [f"… and {len(images) - MOST_IMAGES} more"] if len(images) > MOST_IMAGES else []
    return [image.text for image in images[:MOST_IMAGES]] + more
