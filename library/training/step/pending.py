"""An update's figures on their way from the device, and the lines about its images if they are not finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from library.data.loading.batch import Batch

MOST_IMAGES = 8  # listed individually


@dataclass(frozen=True)
class Figures:
    """The figures of an update; `stop` and `save` are requests to any process."""

    loss: float
    gradient: float  # norm before clipping; of scaled gradients if those of fp16 are not clipped
    stop: bool
    save: bool
    by_target: Mapping[str, float] = field(default_factory=dict)  # for the log: mean losses by kind of target

    @property
    def finite(self) -> bool:
        """Whether loss and gradient norm are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


@dataclass(frozen=True)
class Shown:
    """One image of an update: its record, and a line about it."""

    key: int  # index into FilledData.records
    text: str
    finite: bool


@dataclass(frozen=True, slots=True)
class Showing:
    """One image of an update as it was trained; `place` is its batch in the group, `row` its row in the batch."""

    record: int  # index into FilledData.records
    path: str
    caption: str  # as trained, after shuffling and dropout
    size: tuple[int, int]  # (width, height) in pixels
    timestep: int
    loss: float  # of the masked part, before loss weights; not finite if the mask shows nothing
    place: int
    row: int


@dataclass(frozen=True)
class ShownGroup:
    """The batches of one update on this process with the losses [B] of each; `timesteps` returns one timestep per image of a batch."""

    batches: Sequence[Batch]
    losses: Sequence[Tensor]
    timesteps: Callable[[Batch], Sequence[int]] | None = None

    def images(self) -> list[Shown]:
        """Return every image with caption, timestep and loss; called only when something is wrong."""
        images = []
        for batch, losses in zip(self.batches, self.losses, strict=True):
            steps = self.timesteps(batch) if self.timesteps else [None] * len(batch)
            for place, loss in enumerate(losses.float().tolist()):
                moment = "" if steps[place] is None else f"timestep {steps[place]}, "
                text = f"{batch.paths[place]}: {moment}loss {loss:g}, caption “{batch.captions[place]}”"
                images.append(Shown(batch.records[place], text, math.isfinite(loss)))
        return images

    def showings(self, losses: Sequence[float]) -> list[Showing]:
        """Return every trained image with its loss; `losses` are those of all batches in order."""
        trained, following = [], iter(losses)
        for place, batch in enumerate(self.batches):
            steps = self.timesteps(batch) if self.timesteps else (0,) * len(batch)
            shown = [1.0] * len(batch) if batch.masks is None else batch.masks.mean(dim=(1, 2, 3)).tolist()
            for row, weight in enumerate(batch.loss_weights.tolist()):
                loss = next(following)
                if not weight:  # fills up a process's batch, or is excluded from training
                    continue
                if batch.prior is not None and batch.prior[row]:  # its loss does not measure how well the image is known
                    continue
                part = loss / shown[row] if shown[row] else math.nan
                trained.append(Showing(batch.records[row], batch.paths[row], batch.captions[row], batch.size, steps[row], part, place, row))
        return trained


class Pending:
    """An update whose figures are read later; `step` counts updates from 1, `epoch` is the number of epochs done before."""

    def __init__(self, step: int, epoch: int, group: ShownGroup, loss: Tensor) -> None:
        """`loss` is [3] or [7].

        [3]: the mean loss over images and processes, and the shares of processes that are asked to stop and to save. [7], if the base
        model's prediction is the target of some images: also the sum of losses and the number of images, for these and for the others.
        """
        self.step, self.epoch, self.group = step, epoch, group
        self.extra: Mapping[str, float] = {}  # for the log
        self.overflow = False  # fp16's scaler detected an overflow and skipped the update
        self.loss = loss
        self._figures: Figures | None = None
        self._losses: list[float] = []  # of all images
        self._host: Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def send(self, gradient: Tensor) -> None:
        """Start copying the figures from the device, now that the gradient's norm is known too."""
        per_image = [losses.to(self.loss) for losses in self.group.losses]
        figures = torch.cat([self.loss, gradient.detach().reshape(1).to(self.loss), *per_image])
        if figures.is_cuda:
            self._host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
            self._host.copy_(figures, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch gives it no types
            self._event.record()
        else:
            self._host = figures

    def read(self) -> Figures:
        """Return the figures; waits for the device if they have not arrived."""
        if self._figures is None:
            assert self._host is not None
            if self._event is not None:
                self._event.synchronize()
            values, sums = self._host.tolist(), len(self.loss)
            loss, stop, save, *by_target = values[:sums]
            gradient, *self._losses = values[sums:]
            self._figures = Figures(loss, gradient, stop > 0, save > 0, _means(by_target))
        return self._figures

    def showings(self) -> list[Showing]:
        """Return every image of the update on this process with its loss; waits as `read` does."""
        self.read()
        return self.group.showings(self._losses)


def _means(by_target: Sequence[float]) -> dict[str, float]:
    """Return the mean losses by name, without empty kinds; `loss/prior`: the target is the base model's prediction."""
    pairs = zip(("loss/prior", "loss/without_prior"), by_target[0::2], by_target[1::2], strict=False)
    return {name: total / count for name, total, count in pairs if count}
