"""Puts a run together from its options: accelerator, model, method, data, optimizer, then hands them to the loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from library.console import log
from library.data.loading.loader import worker_count
from library.errors import Stopped, UserError
from library.method import Method
from library.model.bundle import StableDiffusion
from library.options.groups.scripts import TrainingScript
from library.training.batches import Feed, adapter, make_feed
from library.training.caches.latents import latents_of
from library.training.caches.text_cache import text_cache
from library.training.events import RunEvents
from library.training.memory.advice import advice
from library.training.memory.estimate import MemoryCase
from library.training.memory.facts import memory_case
from library.training.memory.rehearsal import FOR_THE_VAE, explained, rehearse, room_on, tell
from library.training.model_setup import ready_model
from library.training.optim.ema import Ema
from library.training.optim.lr_schedule import MadeSchedule, make_schedule
from library.training.optim.optimizer import MadeOptimizer, make_optimizer
from library.training.optim.optimizer_table import chosen_name
from library.training.planning.inputs import Inputs
from library.training.planning.plan import steps_of
from library.training.run_context import Foundation
from library.training.samples.samples import Samples
from library.training.states.accelerate_state_files import load_old_training
from library.training.states.state import TrainState
from library.training.states.state_files import check_can_be_kept, load_all, load_training
from library.training.step.guard import Guard
from library.training.step.loop import Events, Loop
from library.training.step.noise_and_loss import noise_settings, objective_of, schedule_of
from library.training.step.stop_signals import StopRequest
from library.training.step.task import DiffusionTask
from library.training.validation.measure import Validation
from library.training.validation.validation_plan import ValidationPlan
from library.training.validation.validator import Validator

# Process groups live until Python ends: one that goes with the last gradients' reducer waits, with Python's lock held, for a thread of
# gloo that may want that lock.
_GROUPS: list[Any] = []
Fits = Callable[[str], AbstractContextManager[None]]  # when -> inside, running out of memory ends with what to change


@dataclass(frozen=True)
class _Trained:
    """What is trained and what moves it: `task` and `optimizer` as accelerate has prepared them, `made.optimizer` as it was."""

    model: StableDiffusion
    task: Any
    optimizer: Any
    made: MadeOptimizer
    schedule: Any
    ema: Ema | None


def train_model(options: TrainingScript, inputs: Inputs, method: Method, samples: Samples | None) -> None:
    """Build every component from plain values, train, and leave the product in `--output_dir`."""
    started = time.time()
    run = Foundation.lay(options, inputs, method)
    # a wrong name or argument is told before minutes of loading
    _optimizer(run, [{"params": [nn.Parameter(torch.zeros(2, 2))]}])
    events = RunEvents(options, inputs, method, run.state.seed, run.accelerator, samples, started)
    model = ready_model(run)
    validation, feed = _data(run, model)
    made, schedule = _optimizer(run, method.param_groups())
    _tell_notes(made, schedule)
    task = _task(run, model)
    case = memory_case(options, inputs, model, method, run.device)
    tell(case, run.device)
    fits = partial(explained, lambda: advice(case, room_on(run.device)))
    trained = _prepared(run, model, task, made, schedule.schedule, fits)
    attached = events.attach(model, made, trained.schedule, run.state, trained.ema, _validator(run, trained, validation))
    loop = _loop(run, trained, feed, _guard(run, trained, feed, events), attached)
    _rehearse(run, trained, case, fits)
    stopped = _train(loop, events, fits)
    feed.unreadable.tell(run.accelerator.num_processes)
    if run.accelerator.num_processes > 1:
        _GROUPS.append(torch.distributed.group.WORLD)
    run.accelerator.end_training()
    if stopped is not None:
        raise stopped


def _data(run: Foundation, model: StableDiffusion) -> tuple[Validation | None, Feed]:
    """What is validated with and what is trained on; the VAE may leave the device afterwards."""
    options = run.options
    with explained(lambda: FOR_THE_VAE, "while latents were cached"):
        validation = _validation(run, model) if run.inputs.validation else None
        weights = options.model.vae or model.source.path
        cache = latents_of(run.inputs.source, options.data, model.vae, weights, run.accelerator)
    return validation, make_feed(run, model, cache)


def _validation(run: Foundation, model: StableDiffusion) -> Validation:
    """Encode what is validated with."""
    assert run.inputs.validation is not None
    plan = ValidationPlan.from_options(run.options.validation)
    model.vae.to(run.device)
    adapt, workers = adapter(run.options), worker_count(run.options.data.max_data_loader_n_workers)
    rewrite = run.method.rewrite_caption
    return Validation.prepare(run.inputs.validation, plan.seed, plan.max_batches, model, rewrite, adapt, run.accelerator, workers)


def _optimizer(run: Foundation, groups: list[dict[str, Any]]) -> tuple[MadeOptimizer, MadeSchedule]:
    given, training, updates = run.options.optimizer, run.options.training, run.inputs.plan.updates
    # fused kernels hide from fp16's gradient scaler that an update was left out
    fused = training.mixed_precision != "fp16"
    name = chosen_name(given)
    rounding_seed = run.state.seed if training.full_fp16 or training.full_bf16 else None
    made = make_optimizer(name, groups, given.learning_rate, given.optimizer_args, fused, rounding_seed)
    schedule = make_schedule(
        made.optimizer,
        given.lr_scheduler,
        updates=updates,
        warmup=run.inputs.plan.warmup,
        cycles=given.lr_scheduler_num_cycles,
        power=given.lr_scheduler_power,
        decay=steps_of(given.lr_decay_steps, updates),
        min_ratio=given.lr_scheduler_min_lr_ratio,
        timescale=given.lr_scheduler_timescale,
        scheduler_type=given.lr_scheduler_type,
        args=given.lr_scheduler_args,
        forced=made.schedule,
    )
    return made, schedule


def _tell_notes(made: MadeOptimizer, schedule: MadeSchedule) -> None:
    for note in (*made.notes, *schedule.notes):
        log.info(note)
    for warning in (*made.warnings, *schedule.warnings):
        log.warning(warning)


def _task(run: Foundation, model: StableDiffusion) -> DiffusionTask:
    options = run.options
    schedule = schedule_of(options.diffusion, run.device)
    objective = objective_of(options.diffusion, schedule, model.prediction)
    clip_skip = model.family.usable_clip_skip(options.model.clip_skip)
    timesteps = range(options.diffusion.min_timestep, options.diffusion.max_timestep)
    texts = None
    if run.inputs.source.ids_follow_captions:
        texts = text_cache(options.data.cache_text_encoder_outputs, model, run.method, run.inputs, clip_skip)
    return DiffusionTask(model, run.method, schedule, objective, noise_settings(options.diffusion), clip_skip, timesteps, texts)


def _prepared(run: Foundation, model: StableDiffusion, task: DiffusionTask, made: MadeOptimizer, schedule: Any, fits: Fits) -> _Trained:
    """All that is trained on its device, and then, in a run that goes on, what the state has of the optimizer, schedule and average."""
    with fits("when the model was brought to the device"):
        prepared_task, optimizer = run.accelerator.prepare(task, made.optimizer)
    resumed, scaler, saving = run.inputs.resumed, run.accelerator.scaler, run.options.saving
    if resumed and resumed.old:
        load_old_training(resumed.old, run.method, made.optimizer, schedule, scaler, resumed.new_rates)
    elif resumed:
        load_training(resumed.folder, made.optimizer, schedule, scaler, resumed.new_rates)
    if saving.save_state or saving.save_state_on_train_end:
        check_can_be_kept(made.optimizer, schedule)
    return _Trained(model, prepared_task, optimizer, made, schedule, _ema(run, made))


def _ema(run: Foundation, made: MadeOptimizer) -> Ema | None:
    """The average of all that is trained, going on from the state's where there is one."""
    decay, resumed = run.options.averaging.ema_decay, run.inputs.resumed
    if decay is None:
        return None
    if hasattr(made.optimizer, "train"):
        raise UserError(f"--ema_decay: {made.name} averages the weights itself, and saves the average; leave --ema_decay out")
    ema = Ema([parameter for group in made.optimizer.param_groups for parameter in group["params"]], decay)
    if resumed and not ema.load(resumed.folder):
        log.warning(f"--ema_decay: {resumed.folder} holds no average; it begins with the weights after update {resumed.state.step}")
    return ema


def _validator(run: Foundation, trained: _Trained, validation: Validation | None) -> Validator | None:
    if validation is None:
        return None
    plan, optimizer = ValidationPlan.from_options(run.options.validation), trained.made.optimizer
    return Validator(plan, run.inputs.validation, validation, run.accelerator, trained.task, optimizer, run.state)


def _guard(run: Foundation, trained: _Trained, feed: Feed, events: RunEvents) -> Guard:
    return Guard(
        run.options.training.on_nan,
        accelerator=run.accelerator,
        method=run.method,
        optimizer=trained.made.optimizer,
        schedule=trained.schedule,
        leave_out=feed.sampler.leave_out,
        keys=[record.key for record in run.inputs.data.records],
        saved_state=events.newest_state,
        load=partial(_load_all, run=run, trained=trained),
        also=trained.ema.tensors() if trained.ema is not None else (),
    )


def _load_all(folder: Path, run: Foundation, trained: _Trained) -> TrainState:
    """All of a state of this run but the counters, which are returned."""
    state = load_all(folder, run.method, trained.made.optimizer, trained.schedule, run.accelerator.scaler)
    if trained.ema is not None:
        trained.ema.load(folder)
    return state


def _rehearse(run: Foundation, trained: _Trained, case: MemoryCase, fits: Fits) -> None:
    """Try the largest batch, by `--rehearsal` on, off or auto (where there is a GPU)."""
    asked, resumed = run.options.training.rehearsal, run.inputs.resumed is not None
    if asked == "on" or (asked == "auto" and run.device.type == "cuda"):
        with fits("in the rehearsal, before the first update"):
            rehearse(run.accelerator, trained.task, run.method, run.inputs, trained.model.tokenizer, case, run.state.step, resumed)


def _loop(run: Foundation, trained: _Trained, feed: Feed, guard: Guard, events: Events) -> Loop:
    training, limit = run.options.training, run.options.optimizer.max_grad_norm
    return Loop(
        accelerator=run.accelerator,
        task=trained.task,
        method=run.method,
        optimizer=trained.optimizer,
        schedule=trained.schedule,
        batches=feed.batches,
        plan=run.inputs.plan,
        state=run.state,
        max_grad_norm=0.0 if training.full_fp16 else limit,  # the scaler clips then
        events=events,
        length=feed.sampler.length,
        guard=guard,
    )


def _train(loop: Loop, events: RunEvents, fits: Fits) -> Stopped | None:
    """Train and write the product; where somebody asked the run to end before, what to raise once all is put away."""
    wishes = events.wishes
    with contextlib.closing(events), fits("in training"), StopRequest() as stop:
        events.stop_asked = lambda: stop.asked
        loop.stop, loop.save = (lambda: stop.asked or wishes.stop), wishes.look
        if loop.run():
            events.finish()
            return None
        by_file = wishes.stop
        events.stopped()
    return Stopped(stop.exit_signal(by_file))
