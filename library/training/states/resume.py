"""Compares a saved state with the command that resumes from it, and plans the rest of the run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from library.data.batching.buckets import FilledData
from library.data.batching.sampler import Begun, Cut, EpochSampler
from library.data.scan.caption_files import with_affixes
from library.errors import UserError, coded
from library.options.declare import options_of, options_table
from library.options.groups.optimizer import OptimizerOptions
from library.options.groups.saving import SavingOptions
from library.options.groups.scripts import TrainingScript
from library.options.reading.values import as_json
from library.training.planning.plan import steps_of
from library.training.states.accelerate_state import AccelerateState, accelerate_lines
from library.training.states.saved_state import SavedState
from library.training.states.state import TrainState
from library.words import counted, cut, quoted

# Options that do not affect training, or that are compared in other ways: by data, batch sizes, the run's end.
_IGNORED_GROUPS = frozenset({"saving", "sampling", "logging", "hub", "config", "validation"})
_IGNORED = frozenset(
    "dataset_config train_data_dir reg_data_dir in_json dataset_repeats train_batch_size cache_latents "
    "cache_latents_to_disk vae_batch_size debug_dataset max_data_loader_n_workers persistent_data_loader_workers max_train_steps "
    "max_train_epochs seed gradient_accumulation_steps optimizer_type use_8bit_adam use_lion_optimizer lowram tokenizer_cache_dir "
    "network_weights dim_from_weights weights word_weights init_word save_words cache_text_encoder_outputs skip_bad_images rehearsal "
    "vae_slicing".split()
)
_RATES = frozenset({"learning_rate", "learning_rate_te", "unet_lr", "text_encoder_lr", "embedding_lr"})
_CURVE = frozenset(
    "lr_scheduler lr_scheduler_type lr_scheduler_args lr_warmup_steps lr_decay_steps lr_scheduler_num_cycles lr_scheduler_power "
    "lr_scheduler_min_lr_ratio lr_scheduler_timescale".split()
)
_COMPARED = {  # facts that every state has; newer states have more
    "script": str, "options": dict, "optimizer": str, "updates": int, "processes": int, "accumulation": int, "sizes": list,
    "batches_per_epoch": int, "images": str, "captions": str,
}  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """Which schedule a resumed run follows: at the command's rates (`new_rates`) or the state's; `same_curve`: by the state's options."""

    new_rates: bool
    same_curve: bool


@dataclass(frozen=True)
class Resumption:
    """How a run resumes: `state` is its starting point (seed and counters), `lines` report the differences from before."""

    folder: Path
    state: TrainState
    lines: tuple[str, ...]
    schedule: Schedule
    accelerate: AccelerateState | None = None  # of accelerate's format: without a seed, and with counters only if it records them

    def begun(self) -> Begun | None:
        """Return what the sampler needs about the epoch in progress."""
        return Begun(self.state.epoch, self.state.cuts) if self.state.cuts else None


def run_facts(options: TrainingScript, data: FilledData, processes: int, updates: int) -> dict[str, Any]:
    """Return the facts of a run that its state records, as JSON values, so that a later command can be compared with them."""
    values = options_table(options)
    compared = [o.field for o in options_of(type(options)) if o.group not in _IGNORED_GROUPS and o.field not in _IGNORED and not o.secret]
    return {
        "script": options.name,
        "options": {field: as_json(values[field]) for field in compared},
        "optimizer": _optimizer(options.optimizer),
        "updates": updates,
        "processes": processes,
        "accumulation": options.training.gradient_accumulation_steps,
        "sizes": list(EpochSampler(data, 0, processes).sizes),
        "batches_per_epoch": EpochSampler(data, 0, processes).batches_per_epoch,
        "images": _digest(_showings(data)),
        "captions": _digest(f"{record.key}\0{with_affixes(record.caption, record.subset)}" for record in data.records),
        "weights": _digest(_weights(data)),
    }


def resumption(saved: SavedState, options: TrainingScript, data: FilledData, processes: int) -> Resumption:
    """Compare the command with the state's run. Raises UserError if the command cannot continue that run."""
    seed, new_rates = options.training.seed, options.saving.resume_lr == "new"
    before, now = saved.run, run_facts(options, data, processes, 0)
    for name, kind in _COMPARED.items():
        if not isinstance(before.get(name), kind):
            raise UserError(
                coded(
                    "STATE-002",
                    f"--resume {saved.folder}: state.json is damaged (run.{name} is {quoted(before.get(name))}); use an older state",
                )
            )
    _refuse_others(saved, before, now)
    state = replace(saved.state)
    lines: list[str] = []
    if seed not in (None, state.seed):
        lines.append(f"--seed {seed}: the resumed run keeps its original seed, {state.seed}; another seed needs a new run")
    lines += _option_lines(before["options"], now["options"], new_rates, state.step)
    if before["images"] != now["images"]:
        lines.append(_other_images(state))
        state.position, state.cuts = 0, ()
        state.epoch_losses = []
    else:
        if before["captions"] != now["captions"]:
            lines.append("captions: the new ones are used from now on")
        if before.get("weights", now["weights"]) != now["weights"]:
            lines.append("loss weights or masks of images: the new ones are used from now on")
        lines += _size_lines(before, now, state)
    if before["accumulation"] != now["accumulation"]:
        lines.append(
            f"--gradient_accumulation_steps was {before['accumulation']} and is now {now['accumulation']}: "
            "an update is the mean of that many batches from now on"
        )
    same_curve = not any(_changed(before["options"], now["options"], name) for name in _CURVE)
    return Resumption(saved.folder, state, tuple(lines), Schedule(new_rates, same_curve))


def accelerate_resumption(accelerate: AccelerateState, options: SavingOptions) -> Resumption:
    """Return how a run resumes from a state in accelerate's format, which records nothing to compare the command with."""
    schedule = Schedule(options.resume_lr == "new", same_curve=False)
    return Resumption(accelerate.folder, TrainState(0, accelerate.step or 0), tuple(accelerate_lines(accelerate)), schedule, accelerate)


def end_lines(before: Mapping[str, Any], warmup: float, updates: int, step: int) -> Iterator[str]:
    """Report a changed end of the run, and a warm-up (`--lr_warmup_steps`) that includes update `step` again."""
    old = before["options"].get("lr_warmup_steps")
    then, now = steps_of(float(old or 0), before["updates"]), steps_of(warmup, updates)
    if then <= step < now:
        yield (
            f"--lr_warmup_steps {warmup:g} is now {now} of {counted(updates, 'update')} and was {then} "
            f"of {before['updates']}: the learning rate is "
            f"in its warm-up again, at {step}/{now} of its value; --lr_warmup_steps {then} avoids that"
        )
    if before["updates"] != updates:
        yield (
            f"the end of the run moves from update {before['updates']} to {updates}; "
            "a learning rate that falls towards the end (linear, cosine, …) follows the new end"
        )


def _refuse_others(saved: SavedState, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before["script"] != now["script"]:
        raise UserError(
            coded(
                "STATE-004", f"--resume {saved.folder}: is a state of {before['script']}; resume it with that script, not {now['script']}"
            )
        )
    if before["optimizer"].lower() != now["optimizer"].lower():
        raise UserError(
            coded(
                "STATE-004",
                f"--resume {saved.folder}: was trained with --optimizer_type {before['optimizer']}, the command has {now['optimizer']}: "
                "they cannot share a state; use the same one, or start a new run from the saved weights",
            )
        )
    _refuse_other_words(saved, before["options"], now["options"])


def _refuse_other_words(saved: SavedState, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse other words or vector counts: the vectors of all words are rows of one table, so they would be mixed up."""
    words, vectors = ([_as_list(options.get(name)) for options in (before, now)] for name in ("token_string", "num_vectors_per_token"))
    if len(words[0]) == len(words[1]) < 2:
        return  # a single word may have another name
    each = [of_run * len(names) if len(of_run) == 1 else of_run for names, of_run in zip(words, vectors, strict=True)]
    for name, (old, new), differ in (("token_string", words, words[0] != words[1]), ("num_vectors_per_token", vectors, each[0] != each[1])):
        if differ:
            raise UserError(
                coded(
                    "STATE-005",
                    f"--resume {saved.folder}: --{name} was {_shown(old)}, is {_shown(new)} now, and the state's vectors are those of its "
                    "words in their order; use the state's",
                )
            )


def _as_list(value: object) -> list[object]:
    """Normalize a value that some states save alone and others in a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _optimizer(options: OptimizerOptions) -> str:
    older = "AdamW8bit" if options.use_8bit_adam else "Lion" if options.use_lion_optimizer else "AdamW"
    return options.optimizer_type or older


def _option_lines(before: Mapping[str, Any], now: Mapping[str, Any], new_rates: bool, step: int) -> Iterator[str]:
    for name, new in now.items():
        if not _changed(before, now, name):
            continue
        old = before[name]
        change = f"--{name} was {_shown(old)} and is now {_shown(new)}: "
        if name in _RATES and not new_rates:
            yield change + "the state's rate is kept; add --resume_lr new to use the new one"
        elif name in _RATES:
            yield change + f"the new rate is used from update {step + 1} on (--resume_lr new)"
        elif name in _CURVE:
            yield change + f"the new curve is used from update {step + 1} on, at the point it would have reached by then"
        elif name == "optimizer_args":
            yield change + "the optimizer keeps the values of the state"
        else:
            yield change + "the new value is used from now on"


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> bool:
    if name not in before:  # some options are newer than the state
        return False
    return before[name] != now.get(name) and [before[name]] != now.get(name)  # some took one value before they took several


def _other_images(state: TrainState) -> str:
    change = "images, repeats or buckets: "
    if state.position or state.cuts:
        return change + f"epoch {state.epoch + 1}, which was in progress, starts again with the new ones"
    return change + "the new ones are used from now on"


def _size_lines(before: Mapping[str, Any], now: Mapping[str, Any], state: TrainState) -> Iterator[str]:
    """Yield lines about batch size and processes; if batch sizes changed within an epoch, ends the current stretch in `state`."""
    if before["processes"] != now["processes"]:
        yield f"the number of processes was {before['processes']} and is now {now['processes']}: each batch is divided among them"
    if before["sizes"] == now["sizes"]:
        return
    inside = bool(state.position or state.cuts)
    yield f"images per batch over all processes were {_listed(before['sizes'])} and are now {_listed(now['sizes'])}" + (
        f": the rest of epoch {state.epoch + 1} is divided again, and each of its images is still used exactly once" if inside else ""
    )
    if inside:
        state.cuts = (*state.cuts, Cut(tuple(before["sizes"]), state.position))
        state.position = 0


def _showings(data: FilledData) -> Iterator[str]:
    """Yield each showing of an epoch in the sampler's initial order, with the size of the image."""
    for bucket in data.buckets:
        yield f"{bucket.dataset} {bucket.size} {bucket.drawn}"
        train = ((record, repeat) for record, repeats in bucket.train for repeat in range(repeats))
        for record, repeat in itertools.chain(train, ((record, 0) for record in bucket.pool.records)):
            yield f"{data.records[record].key}\0{data.placements[record].resized}\0{repeat}"


def _weights(data: FilledData) -> Iterator[str]:
    """Yield each image's loss weight, whether it has a mask, and whether a file defines what is filled in."""
    for one in data.records:
        filled = "\0fill" if one.fill_mask else ""
        yield f"{one.key}\0{one.subset.loss_weight}\0{bool(one.mask or one.subset.alpha_mask)}{filled}"


def _digest(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:32]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return cut(" ".join(map(str, value))) or "not given"
    if value is None or isinstance(value, bool):
        return {None: "not given", True: "on", False: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else cut(str(value))


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))
