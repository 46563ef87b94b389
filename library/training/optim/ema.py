"""A moving average of the trained weights: steadier than the weights themselves, used for saves and samples on request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.paths.look import is_file

EMA_FILE = "ema.safetensors"
_COUNT = "updates"
_AT_ONCE = 64 * 2**20  # values per share: 16-bit weights are widened one share at a time


class Ema:
    """m ← d·m + (1 − d)·w after every update, with d = min(decay, (1 + n)/(10 + n)) after n updates.

    The average of Polyak & Juditsky 1992 with exponential weights, as in Ho et al. 2020 (app. B); the smaller d of the first updates, as in
    TensorFlow's ExponentialMovingAverage, makes the initial weights fade sooner. Averages are float32 (16 bits would lose a step of 1 − d),
    on the device of their parameters. Raises UserError for a decay that is not in 0 … 1.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(
                coded(
                    "OPT-006",
                    f"--ema_decay {decay:g}: must be at least 0 and below 1; start with 0.999, or 0.9999 for long runs",
                )
            )
        self.decay, self.updates = decay, 0
        self._parameters = list(parameters)
        self._averages = [parameter.detach().to(torch.float32, copy=True) for parameter in self._parameters]
        self._shares = list(_shares(self._averages, self._parameters))

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after an update to the averages."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for averages, parameters in self._shares:
            torch._foreach_lerp_(averages, [parameter.detach().to(torch.float32) for parameter in parameters], 1 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the parameters have the averages as values; afterwards their own values again, unchanged."""
        own = [parameter.data for parameter in self._parameters]
        try:
            for parameter, average in zip(self._parameters, self._averages, strict=True):
                parameter.data = average.to(parameter.dtype)
            yield
        finally:
            for parameter, value in zip(self._parameters, own, strict=True):
                parameter.data = value

    def tensors(self) -> list[Tensor]:
        """The averages themselves, to copy and restore together with the weights."""
        return self._averages

    def save(self, folder: Path) -> None:
        """Write the averages into the folder of a state."""
        tensors = {str(place): average.cpu().contiguous() for place, average in enumerate(self._averages)}
        save_file(tensors | {_COUNT: torch.tensor(self.updates)}, folder / EMA_FILE)

    def load(self, folder: Path) -> bool:
        """Restore the averages of a state; return False if it has no averages, which then start from the current weights.

        Raises UserError where they do not fit.
        """
        path = folder / EMA_FILE
        if not is_file(path):
            return False
        file = open_weights(path, "--resume")
        saved = dict(file.read(file.infos))
        own = {str(place): average for place, average in enumerate(self._averages)}
        wanted = own | {_COUNT: torch.tensor(self.updates)}
        if saved.keys() != wanted.keys() or any(saved[name].shape != like.shape for name, like in wanted.items()):
            raise UserError(
                coded(
                    "STATE-005",
                    f"--resume {folder}: {EMA_FILE} averages other weights than this run trains; use the state's network options",
                )
            )
        for name, average in own.items():
            average.copy_(saved[name])
        self.updates = max(0, int(saved[_COUNT]))
        return True


def _shares(averages: Sequence[Tensor], parameters: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Both in shares of at most `_AT_ONCE` values (a larger tensor alone) on one device, which one kernel updates."""
    share: tuple[list[Tensor], list[Tensor]] = ([], [])
    room = _AT_ONCE
    for average, parameter in zip(averages, parameters, strict=True):
        if share[0] and (room < average.numel() or share[0][0].device != average.device):
            yield share
            share, room = ([], []), _AT_ONCE
        share[0].append(average)
        share[1].append(parameter)
        room -= average.numel()
    if share[0]:
        yield share
