"""An update's figures on their way from the device, and what to tell of its images where they are not finite numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MOST_IMAGES = 8  # that are told one by one


@dataclass(frozen=True)
class Figures:
    """What is known of an update; the two wishes are those of any process."""

    loss: float
    gradient: float  # norm before it is limited; of scaled gradients where fp16's are not limited
    stop: bool
    save: bool

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


@dataclass(frozen=True)
class Shown:
    """One image of an update: its name for draws, and a line about it."""

    key: int  # index into FilledData.records
    text: str
    finite: bool


@dataclass
class Pending:
    """An update, counted from 1 by `step`, of `epoch` epochs done before. `loss` [3]: the mean loss over images and processes, and the
    shares of processes that are asked to stop and to save; `per_image` [B] losses of each batch of `group`."""

    step: int
    epoch: int
    group: Sequence[Any]
    loss: Tensor
    per_image: Sequence[Tensor]
    timesteps: Callable[[Any], Tensor] | None = None  # of a batch, [B]
    save: bool = False  # this process alone is asked to save
    extra: Mapping[str, float] = field(default_factory=dict)
    overflow: bool = False  # fp16's scaler found one and has left the update out by itself
    _figures: Figures | None = None
    _host: Tensor | None = None
    _event: Any = None

    def send(self, gradient: Tensor) -> None:
        """Send the figures on their way, now that the gradient's norm is known too."""
        figures = torch.cat([self.loss, gradient.detach().reshape(1).to(self.loss)])
        if figures.is_cuda:
            self._host = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
            self._host.copy_(figures, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._host = figures

    def read(self) -> Figures:
        """The figures; waits for the device where they have not arrived."""
        if self._figures is None:
            assert self._host is not None
            if self._event is not None:
                self._event.synchronize()
            loss, stop, save, gradient = self._host.tolist()
            self._figures = Figures(loss, gradient, stop > 0, save > 0)
        return self._figures

    def images(self) -> list[Shown]:
        """This process's images with captions, timesteps and losses; only asked when something is wrong."""
        found = []
        for batch, losses in zip(self.group, self.per_image, strict=True):
            steps = self.timesteps(batch).tolist() if self.timesteps else [None] * len(batch)
            for place, loss in enumerate(losses.float().tolist()):
                moment = "" if steps[place] is None else f"timestep {steps[place]}, "
                text = f"{batch.paths[place]}: {moment}loss {loss:g}, caption “{batch.captions[place]}”"
                found.append(Shown(batch.records[place], text, math.isfinite(loss)))
        return found
