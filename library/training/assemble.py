"""Builds a run from its options: accelerator, model, method, data, optimizer; then starts the loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn

from library.console import log
from library.data.loading.loader import worker_count
from library.errors import Stopped
from library.light_imports.later import left_for_later
from library.light_imports.models import SHARDED
from library.method import Method
from library.model.bundle import StableDiffusion
from library.options.groups.scripts import TrainingScript
from library.telling.leaving import leave_at_once
from library.training.base_target import base_target
from library.training.batches import Feed, adapter
from library.training.caches.latents import latents_of
from library.training.caches.text_cache import text_cache
from library.training.events import RunEvents
from library.training.logs.run_record import RunRecord
from library.training.memory.advice import advice
from library.training.memory.estimate import MemoryCase
from library.training.memory.facts import memory_case
from library.training.memory.rehearsal import FOR_THE_VAE, explained, rehearse, room_on, tell
from library.training.model_setup import ready_model
from library.training.optim.lr_schedule import BuiltSchedule, make_schedule
from library.training.optim.optimizer import BuiltOptimizer, make_optimizer
from library.training.optim.optimizer_table import chosen_name
from library.training.optim.parts.gradients import GradientLimits
from library.training.planning.inputs import Inputs
from library.training.planning.part_rates import part_rates
from library.training.planning.plan import steps_of
from library.training.run_context import RunContext, RunStart
from library.training.run_end import RunEnd
from library.training.samples.run_samples import RunSamples
from library.training.samples.samples import Samples
from library.training.saving.file_metadata import FileFacts
from library.training.saving.run_saves import RunSaves
from library.training.speed.compiling import CompiledUnet, check_cuda_graphs
from library.training.speed.kernels import choose_precision
from library.training.speed.parallel import all_are_used
from library.training.states.follow import check_can_follow
from library.training.states.good_states import GoodStates
from library.training.step.course import Course
from library.training.step.guard import Guard, LeftOutImages
from library.training.step.loop import Loop
from library.training.step.noise_and_loss import noise_settings, objective_of, schedule_of, timestep_draws
from library.training.step.task import DiffusionTask, NoiseAndLoss
from library.training.step.update import Gradients, Weights
from library.training.validation.measure import Validation
from library.training.validation.validation_plan import ValidationPlan
from library.training.validation.validator import Validator

# Process groups, kept until Python exits: one that is freed with the last gradients' reducer waits, while it has the GIL, for a gloo
# thread that may need the GIL.
_GROUPS: list[Any] = []
Fits = Callable[[str], AbstractContextManager[None]]  # stage -> context that turns running out of memory into advice


def train_model(options: TrainingScript, inputs: Inputs, method: Method, samples: Samples | None) -> None:
    """Build every component from plain values, train, and write the product to `--output_dir`."""
    start = RunStart.begin(options, inputs, method)
    check_cuda_graphs(options.training, start.device, start.accelerator.num_processes)
    choose_precision(options.training, start.device)
    # reports a wrong name or argument before minutes of loading
    steps = _check_optimizer(start)
    facts = FileFacts(start)
    start.requests.forget_old()
    model = ready_model(start)
    validation, feed = _data(start, model)
    optimizer, schedule = _optimizer(start, method.param_groups(), steps)
    _log_notes(optimizer, schedule)
    task = _task(start, model)
    compiled = CompiledUnet.of(start, model, samples)
    if compiled is not None:
        task.rows = compiled.latent_rows
    case = memory_case(options, inputs, model, method, start.device)
    tell(case, start.device)
    fits = partial(explained, lambda: advice(case, room_on(start.device)))
    start.accelerator.ddp_handler.find_unused_parameters = not all_are_used(start, model)
    with fits("while moving the model to the device"), left_for_later(SHARDED):  # accelerate checks for sharded weights
        prepared = start.accelerator.prepare(task, optimizer.optimizer)
    run = RunContext.create(start, model, prepared, optimizer, schedule)
    validator = _validator(run, validation)
    record = RunRecord(run, facts) if run.accelerator.is_main_process else None
    saves = RunSaves(run, facts, record.journal if record is not None else None)
    run_samples = RunSamples(run, samples, record) if samples is not None else None
    loop = _loop(run, feed, _guard(run, feed, saves), RunEvents(run, saves, record, run_samples, validator))
    _rehearse(run, case, fits)
    if compiled is not None:
        with fits("while compiling the U-Net"):
            compiled.warm_up(run)
    stopped = _train(loop, RunEnd(run, saves, record, samples), fits)
    feed.unreadable.tell(run.accelerator.num_processes)
    if run.accelerator.num_processes > 1:
        _GROUPS.append(torch.distributed.group.WORLD)
        leave_at_once()  # its threads may need the GIL until the very end
    run.accelerator.end_training()
    if stopped is not None:
        raise stopped


def _data(run: RunStart, model: StableDiffusion) -> tuple[Validation | None, Feed]:
    """Return the data for validation and for training; the VAE may leave the device afterwards."""
    options = run.options
    with explained(lambda: FOR_THE_VAE, "while caching latents"):
        validation = _validation(run, model) if run.inputs.validation else None
        assert model.source is not None  # it was loaded from a source
        weights = options.model.vae or str(model.source.path)
        cache = latents_of(run.inputs.source, options.data, model.vae, weights, run.accelerator)
    return validation, Feed.create(run, model, cache)


def _validation(run: RunStart, model: StableDiffusion) -> Validation:
    """Encode the validation images."""
    assert run.inputs.validation is not None
    plan = ValidationPlan.from_options(run.options.validation)
    model.vae.to(run.device)
    adapt, workers = adapter(run.options), worker_count(run.options.data.max_data_loader_n_workers)
    rewrite = run.method.rewrite_caption
    return Validation.prepare(run.inputs.validation, plan.seed, plan.max_batches, model, rewrite, adapt, run.accelerator, workers)


def _check_optimizer(run: RunStart) -> int:
    """Build optimizer and schedule on a placeholder for each trained part; returns how often the schedule is stepped in total.

    Raises UserError if that fails, or if the command's schedule cannot follow the one of the state.
    """
    groups = [{"params": [nn.Parameter(torch.zeros(2, 2))], "lr": rate, "name": name} for name, rate in part_rates(run.options).items()]
    updates, resumed = run.inputs.plan.updates, run.inputs.resumed
    if resumed is None or resumed.accelerate is not None:
        steps = updates if resumed is not None else updates - run.state.step
        _optimizer(run, groups, steps)
        return steps
    _, schedule = _optimizer(run, groups, 0)
    steps = check_can_follow(resumed.folder, schedule) + updates - run.state.step
    _optimizer(run, groups, steps)
    return steps


def _optimizer(run: RunStart, groups: list[dict[str, Any]], steps: int | None = None) -> tuple[BuiltOptimizer, BuiltSchedule]:
    """`steps`: how often the schedule is stepped in total, in this run and before; None: once for each of the run's updates."""
    settings, training, updates = run.options.optimizer, run.options.training, run.inputs.plan.updates
    # with fused kernels, fp16's gradient scaler does not notice a skipped update
    fused = training.mixed_precision != "fp16"
    name = chosen_name(settings)
    rounding_seed = run.state.seed if training.full_fp16 or training.full_bf16 else None
    optimizer = make_optimizer(name, groups, settings.learning_rate, settings.optimizer_args, fused, rounding_seed, run.device)
    schedule = make_schedule(
        optimizer.optimizer,
        settings.lr_scheduler,
        updates=updates,
        warmup=run.inputs.plan.warmup,
        cycles=settings.lr_scheduler_num_cycles,
        power=settings.lr_scheduler_power,
        decay=steps_of(settings.lr_decay_steps, updates),
        min_ratio=settings.lr_scheduler_min_lr_ratio,
        timescale=settings.lr_scheduler_timescale,
        scheduler_type=settings.lr_scheduler_type,
        args=settings.lr_scheduler_args,
        forced=optimizer.schedule,
        steps=steps,
    )
    return optimizer, schedule


def _log_notes(optimizer: BuiltOptimizer, schedule: BuiltSchedule) -> None:
    for note in (*optimizer.notes, *schedule.notes):
        log.info(note)
    for warning in (*optimizer.warnings, *schedule.warnings):
        log.warning(warning)


def _task(run: RunStart, model: StableDiffusion) -> DiffusionTask:
    options = run.options
    schedule = schedule_of(options.diffusion, run.device)
    objective = objective_of(options.diffusion, schedule, model.prediction)
    clip_skip = model.family.usable_clip_skip(options.model.clip_skip)
    draws = timestep_draws(options.diffusion)
    texts = None
    if run.inputs.source.ids_follow_captions:
        texts = text_cache(options.data.cache_text_encoder_outputs, model, run.method, run.inputs, clip_skip)
    base = base_target(run, clip_skip, texts)
    noise_and_loss = NoiseAndLoss(schedule, objective, noise_settings(options.diffusion), draws.among, draws, base)
    return DiffusionTask(model, run.method, noise_and_loss, clip_skip, texts)


def _validator(run: RunContext, validation: Validation | None) -> Validator | None:
    if validation is None or run.inputs.validation is None:
        return None
    plan = ValidationPlan.from_options(run.options.validation)
    return Validator(plan, run.inputs.validation, validation, run)


def _guard(run: RunContext, feed: Feed, saves: RunSaves) -> Guard:
    good_states = GoodStates(run.state_parts, run.accelerator, saves.newest_state)
    left_out = LeftOutImages([record.key for record in run.inputs.data.records], feed.sampler.leave_out)
    return Guard(run.options.training.on_nan, run.accelerator, run.state, good_states, left_out)


def _rehearse(run: RunContext, case: MemoryCase, fits: Fits) -> None:
    """Try the largest batch, if `--rehearsal` is on, or auto and there is a GPU."""
    asked, resumed = run.options.training.rehearsal, run.inputs.resumed is not None
    if asked == "on" or (asked == "auto" and run.device.type == "cuda"):
        with fits("in the rehearsal, before the first update"):
            rehearse(run.accelerator, run.task, run.method, run.inputs, run.model.tokenizer, case, run.state.step, resumed)


def _loop(run: RunContext, feed: Feed, guard: Guard, events: RunEvents) -> Loop:
    course = Course(run.inputs.plan, run.state, feed, run.requests)
    gradients = Gradients(run.accelerator, run.task, run.state, run.requests)
    weights = Weights(run.accelerator, run.method, run.prepared, run.schedule, gradient_limits(run.options))
    return Loop(course, gradients, weights, guard, events)


def gradient_limits(options: TrainingScript) -> GradientLimits:
    """Return the gradient limits of the loop; none with --full_fp16, where the scaler clips."""
    if options.training.full_fp16:
        return GradientLimits()
    return GradientLimits(options.optimizer.max_grad_norm, options.text_encoder_norm)


def _train(loop: Loop, end: RunEnd, fits: Fits) -> Stopped | None:
    """Train and write the product; if the run was asked to stop, returns the exception to raise after the cleanup."""
    requests = loop.course.requests
    with contextlib.closing(end), fits("in training"), requests.signals:
        if loop.run():
            end.finish()
            return None
        by_file = requests.stop_file_is_there()
        end.stop()
    return Stopped(requests.signals.exit_signal(by_file))
