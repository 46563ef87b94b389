"""What every part of a run is built from: `RunStart` before anything heavy is loaded, `RunContext` with model, optimizer and schedule."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.console import log
from library.errors import UserError, coded
from library.method import Method
from library.model.bundle import StableDiffusion
from library.options.groups.scripts import TrainingScript
from library.telling.environment import variables_named
from library.training.ledger.ledger import ImageLedger
from library.training.optim.ema import Ema
from library.training.optim.loss_scaler import LossScaler
from library.training.optim.lr_schedule import BuiltSchedule
from library.training.optim.optimizer import BuiltOptimizer
from library.training.planning.inputs import Inputs
from library.training.precision import check_device
from library.training.processes import PreparedOptimizer, Processes
from library.training.speed.kernels import match_layouts
from library.training.states.accelerate_state_files import load_accelerate_training
from library.training.states.follow import follow_training
from library.training.states.state import TrainState
from library.training.states.state_files import check_can_be_kept
from library.training.states.state_parts import StateParts
from library.training.step.request_files import RequestFiles
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest


@dataclass(frozen=True)
class RunStart:
    """What is known before anything heavy is loaded; the loop updates `state`, and `requests` collects requests to the running run."""

    options: TrainingScript
    inputs: Inputs
    method: Method
    accelerator: Processes
    state: TrainState
    requests: Requests
    started: float  # seconds since the epoch

    @classmethod
    def begin(cls, options: TrainingScript, inputs: Inputs, method: Method) -> RunStart:
        """Connect to the other processes and agree on the seed. Raises UserError for a precision that the device does not support."""
        started = time.time()
        accelerator = _accelerator(options)
        state = inputs.first_state(lambda: _seed(options.training.seed))
        requests = Requests(StopRequest(), RequestFiles(options.saving.folder), accelerator.num_processes)
        return cls(options, inputs, method, accelerator, state, requests, started)

    @property
    def device(self) -> torch.device:
        """The device on which this process trains."""
        return self.accelerator.device

    def on_main(self, act: Callable[[], object]) -> None:
        """Have the main process act while the others wait."""
        if self.accelerator.is_main_process:
            act()
        self.accelerator.wait_for_everyone()


@dataclass(frozen=True)
class RunContext(RunStart):
    """Everything that a run works with: saves, samples, logs and closing lines are built from it."""

    model: StableDiffusion  # with the method attached
    task: nn.Module  # a DiffusionTask, prepared by accelerate
    prepared: PreparedOptimizer
    optimizer: BuiltOptimizer
    schedule: LRScheduler
    ema: Ema | None
    ledger: ImageLedger | None

    @classmethod
    def create(
        cls,
        start: RunStart,
        model: StableDiffusion,
        prepared: tuple[nn.Module, PreparedOptimizer],
        optimizer: BuiltOptimizer,
        schedule: BuiltSchedule,
    ) -> RunContext:
        """`prepared` are task and optimizer on the device; a resumed run restores optimizer, schedule and average from its state.

        Raises UserError if they do not fit, or could not be saved in a state.
        """
        placed, saving = _placed(start, optimizer.optimizer, schedule), start.options.saving
        if start.options.training.channels_last:
            match_layouts(optimizer.optimizer)
        if saving.save_state or saving.save_state_on_train_end:
            check_can_be_kept(optimizer.optimizer, placed)
        return cls(**vars(start), model=model, task=prepared[0], prepared=prepared[1], optimizer=optimizer, schedule=placed,
                   ema=_ema(start, optimizer), ledger=_ledger(start))  # fmt: skip

    @property
    def state_parts(self) -> StateParts:
        """What the states of this run contain."""
        return StateParts(self.method, self.optimizer.optimizer, self.schedule, self.accelerator.scaler, self.ema, self.ledger)


def _accelerator(options: TrainingScript) -> Accelerator:
    mixed_precision = options.training.mixed_precision
    training = options.training
    parallel = DistributedDataParallelKwargs(
        find_unused_parameters=True,  # set later, when the model is loaded: `speed.parallel`
        broadcast_buffers=False,
        gradient_as_bucket_view=training.ddp_gradient_as_bucket_view,
        static_graph=training.ddp_static_graph,
    )
    groups = process_groups(os.name == "nt", training.ddp_timeout)
    # accelerate would compile the whole step; this suite compiles the U-Net only (`speed.compiling`), also if the launcher asks for it
    with variables_named():
        accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[parallel, *groups], dynamo_backend="NO")
    check_device(mixed_precision, accelerator.device)
    if options.training.full_fp16:
        accelerator.scaler = LossScaler(options.optimizer.max_grad_norm)
    return accelerator


def _placed(start: RunStart, optimizer: Optimizer, schedule: BuiltSchedule) -> LRScheduler:
    """Return the schedule at the run's first update; a resumed run also restores optimizer and scaler from its state."""
    resumed, scaler = start.inputs.resumed, start.accelerator.scaler
    if resumed is None:
        return schedule.schedule
    if resumed.accelerate:
        return load_accelerate_training(
            resumed.accelerate, start.method, optimizer, schedule.schedule, scaler, resumed.schedule.new_rates, schedule.rebuild
        )
    return follow_training(resumed.folder, optimizer, schedule, scaler, resumed.schedule)


def _ema(start: RunStart, optimizer: BuiltOptimizer) -> Ema | None:
    """Return the average of all that is trained, restored from the state if it has an average."""
    decay, resumed = start.options.averaging.ema_decay, start.inputs.resumed
    if decay is None:
        return None
    if hasattr(optimizer.optimizer, "train"):
        raise UserError(
            coded("OPT-008", f"--ema_decay: {optimizer.name} averages the weights itself, and saves the average; remove --ema_decay")
        )
    ema = Ema([parameter for group in optimizer.optimizer.param_groups for parameter in group["params"]], decay)
    if resumed and not ema.load(resumed.folder):
        log.warning(f"--ema_decay: {resumed.folder} has no average; it starts with the weights after update {resumed.state.step}")
    return ema


def _ledger(start: RunStart) -> ImageLedger | None:
    """Return the image ledger, restored from the state if it has a ledger."""
    if not start.options.logging.image_ledger:
        return None
    images, resumed = start.inputs.source.cacheable(), start.inputs.resumed
    ledger = ImageLedger(None if images is None else images.records, start.accelerator)
    if resumed and not ledger.load(resumed.folder):
        log.warning(f"--image_ledger: {resumed.folder} has no ledger; it starts with the images after update {start.state.step}")
    return ledger


def process_groups(on_windows: bool, minutes: int | None = None) -> list[InitProcessGroupKwargs]:
    """Return how several processes connect, where accelerate's default fails: on Windows torch has no NCCL, and libuv may be missing.

    `minutes` is how long they wait for each other; None or 0 uses torch's default.
    """
    if int(os.environ.get("LOCAL_RANK", "-1")) < 0:
        return []
    timeout = {"timeout": timedelta(minutes=minutes)} if minutes else {}
    if on_windows:
        return [InitProcessGroupKwargs(backend="gloo", init_method="env://?use_libuv=False", **timeout)]
    return [InitProcessGroupKwargs(**timeout)] if timeout else []


def _seed(asked: int | None) -> int:
    """Return the run's seed; without `--seed` a random one, the same on every process."""
    if asked is not None:
        return asked
    drawn = [secrets.randbits(31)]
    broadcast_object_list(drawn)
    log.info(f"seed: {drawn[0]} (chosen at random; --seed {drawn[0]} repeats this run)")
    return drawn[0]
