"""What every part of a run is built on: options, inputs, method, processes and devices, and the counters with the seed."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from library.console import log
from library.method import Method
from library.options.groups.scripts import TrainingScript
from library.training.optim.loss_scaler import LossScaler
from library.training.planning.inputs import Inputs
from library.training.precision import check_device
from library.training.states.state import TrainState


@dataclass(frozen=True)
class Foundation:
    """What is settled before anything heavy is loaded; the loop moves `state` on."""

    options: TrainingScript
    inputs: Inputs
    method: Method
    accelerator: Accelerator
    state: TrainState

    @classmethod
    def lay(cls, options: TrainingScript, inputs: Inputs, method: Method) -> Foundation:
        """Meet the other processes, and agree on the seed. Raises UserError for a precision that the device cannot do."""
        accelerator = _accelerator(options)
        return cls(options, inputs, method, accelerator, inputs.first_state(lambda: _seed(options.training.seed)))

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.accelerator.device


def _accelerator(options: TrainingScript) -> Accelerator:
    mixed_precision = options.training.mixed_precision
    # Layers that a step does not use (the text encoder's last ones under clip skip, dropped LoRA modules) have no gradient.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[parallel, *process_groups(os.name == "nt")])
    check_device(mixed_precision, accelerator.device)
    if options.training.full_fp16:
        accelerator.scaler = LossScaler(options.optimizer.max_grad_norm)
    return accelerator


def process_groups(on_windows: bool) -> list[InitProcessGroupKwargs]:
    """How several processes meet, where accelerate's own way does not do: torch has no NCCL on Windows, nor is libuv sure to be there."""
    if not on_windows or int(os.environ.get("LOCAL_RANK", "-1")) < 0:
        return []
    return [InitProcessGroupKwargs(backend="gloo", init_method="env://?use_libuv=False")]


def _seed(asked: int | None) -> int:
    """The run's seed; without `--seed` a random one, the same on every process."""
    if asked is not None:
        return asked
    drawn = [secrets.randbits(31)]
    broadcast_object_list(drawn)
    log.info(f"seed: {drawn[0]} (drawn at random; --seed {drawn[0]} repeats this run)")
    return drawn[0]
