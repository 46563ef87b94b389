"""Puts a run together from its options: accelerator, model, method, data, optimizer, then hands them to the loop."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch import nn

from library.console import log
from library.data.batch import Batch
from library.data.dataset import TrainingDataset
from library.data.latent_cache import LatentCache
from library.data.loader import EpochLoader, worker_count
from library.data.sampler import EpochSampler
from library.errors import Stopped, UserError
from library.model.attention import set_attention
from library.model.facts import usable_clip_skip
from library.model.load import load
from library.model.tokenizer import WINDOW, ClipTokenizer, too_long, without_padding
from library.options.declare import Script, values_of
from library.seeds import fold
from library.training.ema import Ema
from library.training.events import RunEvents
from library.training.guard import Guard
from library.training.inputs import Inputs
from library.training.latents import latent_cache
from library.training.loop import train
from library.training.loss_scaler import LossScaler
from library.training.lr_schedule import MadeSchedule, make_schedule
from library.training.memory import FOR_THE_VAE, explained, rehearse, room_on, tell
from library.training.memory_advice import advice
from library.training.memory_facts import memory_case
from library.training.method import Method
from library.training.noise_and_loss import noise_settings, objective_of, schedule_of
from library.training.old_state_files import load_old_training, load_old_weights
from library.training.optimizer import MadeOptimizer, make_optimizer
from library.training.optimizer_table import resolve_name
from library.training.plan import steps_of
from library.training.precision import check_device, frozen_dtype, settle_dtypes, trained_dtype
from library.training.resume import Resumption
from library.training.samples import Samples
from library.training.state import TrainState
from library.training.state_files import check_can_be_kept, load_all, load_training, load_weights
from library.training.stop import StopRequest
from library.training.task import DiffusionTask
from library.training.text_cache import text_cache
from library.training.unreadable import UnreadableImages
from library.training.validation import Validation
from library.training.validation_plan import ValidationPlan
from library.training.validator import Validator

READERS = 2  # loader workers that read cached latents


# Process groups live until Python ends: one that goes with the last gradients' reducer waits, with Python's lock held, for a thread of
# gloo that may want that lock.
_GROUPS: list[Any] = []


def train_model(options: Script, inputs: Inputs, method: Method, samples: Samples | None) -> None:
    """Build every component from plain values, train, and leave the product in `--output_dir`."""
    started = time.time()
    training = options.training
    accelerator = _accelerator(options)
    resumed = inputs.resumed
    state = inputs.first_state(lambda: _seed(training.seed))
    seed = state.seed
    # a wrong name or argument is told before minutes of loading
    _optimizer(options, [{"params": [nn.Parameter(torch.zeros(2, 2))]}], inputs, seed)
    events = RunEvents(options, inputs, method, seed, accelerator, samples, started)
    model = _model(options, method, accelerator)
    tell_long_captions((record.caption for record in inputs.data.records), model.tokenizer)
    torch.manual_seed(fold(seed, "new weights") & 0xFFFF_FFFF_FFFF)  # what a method adds starts the same in every run and process
    method.attach(model)
    settle_dtypes(model, method, training)
    if resumed and resumed.old:
        load_old_weights(resumed.old, method)
    elif resumed:
        load_weights(resumed.folder, method)
    if state.step:
        method.go_on(state.step)
    if training.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        # transformers gives the method a new name; 5.17 has the old one only
        enable = getattr(model.text_encoder, "activation_checkpointing_enable", None) or model.text_encoder.gradient_checkpointing_enable
        enable()

    with explained(lambda: FOR_THE_VAE, "while latents were cached"):
        validation = _validation(options, inputs, model, method, accelerator) if inputs.validation else None
        cache = latent_cache(options.data, inputs.data, model.vae, options.model.vae or model.source.path, accelerator)
    unreadable = UnreadableImages(cache.unreadable if cache else ())
    sampler = inputs.sampler(seed)
    sampler.leave_out(state.left_out)
    batches = _batches(options, inputs, model, method, sampler, cache, unreadable, accelerator)
    made, schedule = _optimizer(options, method.param_groups(), inputs, seed)
    for note in (*made.notes, *schedule.notes):
        log.info(note)
    for warning in (*made.warnings, *schedule.warnings):
        log.warning(warning)
    task = _task(options, inputs, model, method, accelerator)
    case = memory_case(options, inputs, model, method, accelerator.device)
    tell(case, accelerator.device)
    fits = partial(explained, lambda: advice(case, room_on(accelerator.device)))
    with fits("when the model was brought to the device"):
        task, optimizer = accelerator.prepare(task, made.optimizer)
    if resumed and resumed.old:
        load_old_training(resumed.old, method, made.optimizer, schedule.schedule, accelerator.scaler, resumed.new_rates)
    elif resumed:
        load_training(resumed.folder, made.optimizer, schedule.schedule, accelerator.scaler, resumed.new_rates)
    if options.saving.save_state or options.saving.save_state_on_train_end:
        check_can_be_kept(made.optimizer, schedule.schedule)
    ema = _ema(options, made, resumed)
    validator = None
    if validation is not None:
        plan = ValidationPlan.from_values(values_of(options))
        validator = Validator(plan, inputs.validation, validation, accelerator, task, made.optimizer, state)
    attached = events.attach(model, made, schedule.schedule, state, ema, validator)
    guard = Guard(
        training.on_nan,
        accelerator=accelerator,
        method=method,
        optimizer=made.optimizer,
        schedule=schedule.schedule,
        leave_out=sampler.leave_out,
        keys=[record.key for record in inputs.data.records],
        saved_state=events.newest_state,
        load=partial(_load_all, method=method, optimizer=made.optimizer, schedule=schedule.schedule, scaler=accelerator.scaler, ema=ema),
        also=ema.tensors() if ema is not None else (),
    )
    if training.rehearsal == "on" or (training.rehearsal == "auto" and accelerator.device.type == "cuda"):
        with fits("in the rehearsal, before the first update"):
            rehearse(accelerator, task, method, inputs, model.tokenizer, case, state.step, resumed is not None)
    with contextlib.closing(events), fits("in training"), StopRequest() as stop:
        finished = train(
            accelerator=accelerator,
            task=task,
            method=method,
            optimizer=optimizer,
            schedule=schedule.schedule,
            batches=batches,
            plan=inputs.plan,
            state=state,
            max_grad_norm=0.0 if training.full_fp16 else options.optimizer.max_grad_norm,  # the scaler clips then
            events=attached,
            length=sampler.length,
            stop=lambda: stop.asked or events.wishes.stop,
            save=events.wishes.look,
            guard=guard,
        )
        if finished:
            events.finish()
        else:
            by_file = events.wishes.stop
            events.stopped()
    unreadable.tell(accelerator.num_processes)
    if accelerator.num_processes > 1:
        _GROUPS.append(torch.distributed.group.WORLD)
    accelerator.end_training()
    if not finished:
        raise Stopped(stop.exit_signal(by_file))


def _accelerator(options: Script) -> Accelerator:
    mixed_precision = options.training.mixed_precision
    # Layers that a step does not use (the text encoder's last ones under clip skip, dropped LoRA modules) have no gradient.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=[parallel])
    check_device(mixed_precision, accelerator.device)
    if options.training.full_fp16:
        accelerator.scaler = LossScaler(options.optimizer.max_grad_norm)
    return accelerator


def _seed(asked: int | None) -> int:
    """The run's seed; without `--seed` a random one, the same on every process."""
    if asked is not None:
        return asked
    drawn = [secrets.randbits(31)]
    broadcast_object_list(drawn)
    log.info(f"seed: {drawn[0]} (drawn at random; --seed {drawn[0]} repeats this run)")
    return drawn[0]


def _model(options: Script, method: Method, accelerator: Accelerator) -> Any:
    given, values = options.model, values_of(options)
    log.info(f"loading {given.pretrained_model_name_or_path}")
    training = options.training
    kept_dtype = trained_dtype(training.full_fp16, training.full_bf16) if method.full_precision else frozen_dtype(training.mixed_precision)
    model = load(
        given.pretrained_model_name_or_path,
        given.v2,
        given.v_parameterization,
        given.vae,
        kept_dtype,
        given.tokenizer_cache_dir,
        given.max_token_length,
        vae_dtype=torch.float32 if training.no_half_vae else None,
        device=accelerator.device if training.lowram else "cpu",
    )
    model.half_vae = not training.no_half_vae
    if training.vae_slicing:
        model.vae.enable_slicing()
    if training.vae_tiling:
        model.vae.enable_tiling()
    if values.get("weighted_captions"):
        model.tokenizer = model.tokenizer.with_settings(model.tokenizer.windows, weighted=True)
    xformers = values["xformers"] or values.get("diffusers_xformers")
    attention = "xformers" if xformers else "mem_eff" if values["mem_eff_attn"] else "sdpa"
    set_attention(model.unet, model.vae, attention)
    model.zero_terminal_snr = values["zero_terminal_snr"]
    return model


def tell_long_captions(captions: Iterable[str], tokenizer: ClipTokenizer, shown: int = 5) -> None:
    """Warn of captions that do not fit into the tokens asked for, with the words that are lost (SPEC D14)."""
    lost = too_long(captions, tokenizer)
    if not lost:
        return
    examples = "; ".join(f"“{caption[:30]}…” loses “{words[:80]}{'…' if len(words) > 80 else ''}”" for caption, words in lost[:shown])
    more = f" and {len(lost) - shown} more" if len(lost) > shown else ""
    room = tokenizer.windows * WINDOW
    log.warning(f"--max_token_length {room}: {len(lost)} captions are longer: {examples}{more}; 150 or 225 makes room, or shorten them")


def _validation(options: Script, inputs: Inputs, model: Any, method: Method, accelerator: Accelerator) -> Validation:
    """Encode what is validated with; the VAE may leave the device afterwards."""
    assert inputs.validation is not None
    plan = ValidationPlan.from_values(values_of(options))
    model.vae.to(accelerator.device)
    adapt = _unpadded if values_of(options).get("no_token_padding") else lambda batch: batch
    workers = worker_count(options.data.max_data_loader_n_workers)
    return Validation.prepare(inputs.validation, plan.seed, plan.max_batches, model, method.rewrite_caption, adapt, accelerator, workers)


def _load_all(folder: Path, method: Method, optimizer: Any, schedule: Any, scaler: Any, ema: Ema | None) -> TrainState:
    """All of a state of this run but the counters, which are returned."""
    state = load_all(folder, method, optimizer, schedule, scaler)
    if ema is not None:
        ema.load(folder)
    return state


def _ema(options: Script, made: MadeOptimizer, resumed: Resumption | None) -> Ema | None:
    """The average of all that is trained, going on from the state's where there is one."""
    decay = options.averaging.ema_decay
    if decay is None:
        return None
    if hasattr(made.optimizer, "train"):
        raise UserError(f"--ema_decay: {made.name} averages the weights itself, and saves the average; leave --ema_decay out")
    ema = Ema([parameter for group in made.optimizer.param_groups for parameter in group["params"]], decay)
    if resumed and not ema.load(resumed.folder):
        log.warning(f"--ema_decay: {resumed.folder} holds no average; it begins with the weights after update {resumed.state.step}")
    return ema


def _batches(
    options: Script,
    inputs: Inputs,
    model: Any,
    method: Method,
    sampler: EpochSampler,
    cache: LatentCache | None,
    unreadable: UnreadableImages,
    accelerator: Accelerator,
) -> Callable[[int, int], Iterable[Batch]]:
    plan, data = inputs.plan, options.data
    dataset = TrainingDataset(inputs.data, model.tokenizer, method.rewrite_caption, cache is None, plan.updates, plan.accumulation, cache)
    workers = worker_count(data.max_data_loader_n_workers)
    if cache is not None:  # nothing is left to decode, at most to be read
        workers = 0 if cache.in_memory else min(workers, READERS)
    pinned = accelerator.device.type == "cuda"
    loader = EpochLoader(dataset, sampler, accelerator.process_index, workers, data.persistent_data_loader_workers, pinned)

    def batches(epoch: int, start: int) -> Iterable[Batch]:
        loaded = map(unreadable.noted, loader.epoch(epoch, start))
        if values_of(options).get("no_token_padding"):
            loaded = map(_unpadded, loaded)
        return loaded

    return batches


def _unpadded(batch: Batch) -> Batch:
    input_ids, token_weights = without_padding(batch.input_ids, batch.token_weights)
    return replace(batch, input_ids=input_ids, token_weights=token_weights)


def _optimizer(options: Script, groups: list[dict[str, Any]], inputs: Inputs, seed: int) -> tuple[MadeOptimizer, MadeSchedule]:
    given = options.optimizer
    # fused kernels hide from fp16's gradient scaler that an update was left out
    fused = options.training.mixed_precision != "fp16"
    name = resolve_name(given.optimizer_type, given.use_8bit_adam, given.use_lion_optimizer)
    rounding_seed = seed if options.training.full_fp16 or options.training.full_bf16 else None
    made = make_optimizer(name, groups, given.learning_rate, given.optimizer_args, fused, rounding_seed)
    schedule = make_schedule(
        made.optimizer,
        given.lr_scheduler,
        updates=inputs.plan.updates,
        warmup=inputs.plan.warmup,
        cycles=given.lr_scheduler_num_cycles,
        power=given.lr_scheduler_power,
        decay=steps_of(given.lr_decay_steps, inputs.plan.updates),
        min_ratio=given.lr_scheduler_min_lr_ratio,
        timescale=given.lr_scheduler_timescale,
        scheduler_type=given.lr_scheduler_type,
        args=given.lr_scheduler_args,
        forced=made.schedule,
    )
    return made, schedule


def _task(options: Script, inputs: Inputs, model: Any, method: Method, accelerator: Accelerator) -> DiffusionTask:
    values = values_of(options)
    schedule = schedule_of(values, accelerator.device)
    objective = objective_of(values, schedule, model.prediction)
    clip_skip = usable_clip_skip(model.version, values["clip_skip"])
    timesteps = range(values["min_timestep"], values["max_timestep"])
    texts = text_cache(values["cache_text_encoder_outputs"], model, method, inputs, clip_skip)
    return DiffusionTask(model, method, schedule, objective, noise_settings(values), clip_skip, timesteps, texts)
