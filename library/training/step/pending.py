"""An update's figures on their way from the device, and what to tell of its images where they are not finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from library.data.loading.batch import Batch

MOST_IMAGES = 8  # that are told one by one


@dataclass(frozen=True)
class Figures:
    """What is known of an update; the two requests are those of any process."""

    loss: float
    gradient: float  # norm before it is limited; of scaled gradients where fp16's are not limited
    stop: bool
    save: bool
    by_target: Mapping[str, float] = field(default_factory=dict)  # for the log: mean losses of draws by what their target is

    @property
    def finite(self) -> bool:
        """Whether both numbers are."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


@dataclass(frozen=True)
class Shown:
    """One image of an update: its name for draws, and a line about it."""

    key: int  # index into FilledData.records
    text: str
    finite: bool


@dataclass(frozen=True, slots=True)
class Showing:
    """One image of an update as it was trained; `place` and `row` say where it stood: the batch of the group, the image in the batch."""

    record: int  # index into FilledData.records
    path: str
    caption: str  # as drawn
    size: tuple[int, int]  # (width, height) in pixels
    timestep: int
    loss: float  # of the part that its mask shows, before weights of images; not finite where it shows nothing
    place: int
    row: int


@dataclass(frozen=True)
class ShownGroup:
    """The batches of one update on this process with the losses [B] of each; `timesteps` gives the timesteps of a batch, one an image."""

    batches: Sequence[Batch]
    losses: Sequence[Tensor]
    timesteps: Callable[[Batch], Sequence[int]] | None = None

    def images(self) -> list[Shown]:
        """Every image with caption, timestep and loss; only asked when something is wrong."""
        images = []
        for batch, losses in zip(self.batches, self.losses, strict=True):
            steps = self.timesteps(batch) if self.timesteps else [None] * len(batch)
            for place, loss in enumerate(losses.float().tolist()):
                moment = "" if steps[place] is None else f"timestep {steps[place]}, "
                text = f"{batch.paths[place]}: {moment}loss {loss:g}, caption “{batch.captions[place]}”"
                images.append(Shown(batch.records[place], text, math.isfinite(loss)))
        return images

    def showings(self, losses: Sequence[float]) -> list[Showing]:
        """Every image that was trained, with its loss out of `losses`, which are those of all batches in turn."""
        found, following = [], iter(losses)
        for place, batch in enumerate(self.batches):
            steps = self.timesteps(batch) if self.timesteps else (0,) * len(batch)
            shown = [1.0] * len(batch) if batch.masks is None else batch.masks.mean(dim=(1, 2, 3)).tolist()
            for row, weight in enumerate(batch.loss_weights.tolist()):
                loss = next(following)
                if not weight:  # it only fills a process's turn, or is not to be trained
                    continue
                if batch.prior is not None and batch.prior[row]:  # its loss says nothing of how well the image is known
                    continue
                part = loss / shown[row] if shown[row] else math.nan
                found.append(Showing(batch.records[row], batch.paths[row], batch.captions[row], batch.size, steps[row], part, place, row))
        return found


class Pending:
    """An update, counted from 1 by `step`, of `epoch` epochs done before, whose figures are read when somebody asks for them."""

    def __init__(self, step: int, epoch: int, group: ShownGroup, loss: Tensor) -> None:
        """`loss` [3]: the mean loss over images and processes, and the shares of processes that are asked to stop and to save. [7] where
        some draws have the base model's prediction as target: of these and of the others the sum of their losses, and their number."""
        self.step, self.epoch, self.group = step, epoch, group
        self.extra: Mapping[str, float] = {}  # for the log
        self.overflow = False  # fp16's scaler found one and has left the update out by itself
        self.loss = loss
        self._figures: Figures | None = None
        self._losses: list[float] = []  # of all images
        self._host: Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def send(self, gradient: Tensor) -> None:
        """Send the figures on their way, now that the gradient's norm is known too."""
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
        """The figures; waits for the device where they have not arrived."""
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
        """Every image that the update was made of on this process, with its loss; waits as `read` does."""
        self.read()
        return self.group.showings(self._losses)


def _means(by_target: Sequence[float]) -> dict[str, float]:
    """By name, of those of which there are any; `loss/prior`: target is the base model's prediction."""
    pairs = zip(("loss/prior", "loss/without_prior"), by_target[0::2], by_target[1::2], strict=False)
    return {name: total / count for name, total, count in pairs if count}
