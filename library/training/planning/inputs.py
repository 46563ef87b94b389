"""From options to the images and the plan of a run: everything that can be known, reported and refused before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from library.console import log
from library.data.batching.buckets import FilledData, fill
from library.data.batching.sampler import EpochSampler
from library.data.config.blueprint import DREAMBOOTH, METADATA, DatasetBlueprint, Size, check_caching
from library.data.config.build import read_config
from library.data.config.folders import from_folders
from library.data.inspection.bucket_facts import small_images
from library.data.scan.mask_files import with_masks
from library.data.scan.metadata import from_metadata
from library.data.scan.records import Scan, scan
from library.data.scan.validation_split import split_validation
from library.errors import UserError, coded
from library.options.declare import section_table
from library.options.groups.data import DataOptions
from library.options.groups.saving import SavingOptions
from library.options.groups.scripts import TrainingScript
from library.options.groups.validation import ValidationOptions
from library.training.planning.collection import seldom_collected
from library.training.planning.custom_dataset import CustomDataset, open_custom
from library.training.planning.image_source import ImageSource
from library.training.planning.plan import RunPlan, Start, make_plan, plan_lines
from library.training.planning.prior_plan import with_prior
from library.training.planning.source import Source
from library.training.states.accelerate_state import AccelerateState
from library.training.states.resume import Resumption, accelerate_resumption, end_lines, resumption
from library.training.states.saved_state import SavedState
from library.training.states.state import TrainState
from library.training.validation.validation_plan import check_ended_early, check_has_images
from library.words import counted, verb

ALL_FORMS = frozenset({DREAMBOOTH, METADATA})


@dataclass(frozen=True)
class Inputs:
    """What a run works on. `sampler` has no seed yet: `sampler(seed)` binds it. `resumed` describes how a resumed run continues."""

    source: Source
    data: FilledData  # what the sampler shuffles and distributes: the source's images, or its batches as one record each
    plan: RunPlan
    processes: int
    resumed: Resumption | None = None
    start: Start | None = None
    validation: FilledData | None = None  # images that are never trained on

    def sampler(self, seed: int) -> EpochSampler:
        """The order of every epoch under `seed`."""
        return EpochSampler(self.data, seed, self.processes, self.resumed.begun() if self.resumed else None)

    @property
    def shown_per_epoch(self) -> int:
        """Train images × repeats of all datasets; 0 where it is not known in advance."""
        return sum(figures.shown for figures in self.data.figures) if isinstance(self.source, ImageSource) else 0

    @property
    def resolutions(self) -> list[Size]:
        """The resolution of each dataset; none for a custom dataset class."""
        return [spec.options.resolution for spec in self.data.blueprint.datasets] if isinstance(self.source, ImageSource) else []

    def plan_lines(self, max_train_epochs: int | None) -> list[str]:
        """The plan as lines for the user."""
        start, images = self.start, self.shown_per_epoch
        return plan_lines(self.plan, processes=self.processes, max_train_epochs=max_train_epochs, start=start, images=images)

    def first_state(self, seed: Callable[[], int]) -> TrainState:
        """The counters that the run starts with; `seed()` is called where no state has a seed."""
        if self.resumed is not None and self.resumed.accelerate is None:
            return self.resumed.state
        start = self.start or Start(0, 0, 0)
        return TrainState(seed(), start.step, start.epoch, start.position)


@seldom_collected()
def gather(options: TrainingScript, forms: frozenset[str] = ALL_FORMS, saved: SavedState | AccelerateState | None = None) -> Inputs:
    """Read the dataset config or folders, scan images and captions, fill buckets and work out the plan, from `saved` on if given.

    Raises UserError with all errors of a stage together.
    """
    if options.data.dataset_class is not None:
        return planned_custom(options, open_custom(options), saved)
    scanned = scan(blueprint_of(options.data, options.validation, forms), options.data.skip_bad_images)
    return planned(options, scanned, saved)


def blueprint_of(options: DataOptions, validation: ValidationOptions | None = None, forms: frozenset[str] = ALL_FORMS) -> DatasetBlueprint:
    """What the dataset config or the folders describe. Raises UserError with all errors."""
    blueprint = _blueprint(options, section_table(options, *([] if validation is None else [validation])), forms)
    if (options.cache_latents or options.cache_latents_to_disk) and (faults := check_caching(blueprint)):
        raise UserError(*faults)
    return blueprint


def planned(options: TrainingScript, scanned: Scan, saved: SavedState | AccelerateState | None = None) -> Inputs:
    """The buckets and the plan of a run on these images, from `saved` on if given, including masks and validation images.

    Raises UserError for images that leave nothing to train, and for a state that does not match the command.
    """
    trained, held_out = split_validation(with_masks(scanned, options.diffusion.masked_loss, options.model.train_inpainting))
    data = with_prior(fill(trained, options.data.prior_loss_weight), options.data.prior_from_base)
    if options.diffusion.masked_loss:
        from library.data.pixels.mask_extent import with_masks_seen

        data = with_masks_seen(data)
    validation = fill(held_out) if held_out else None
    if isinstance(saved, SavedState):
        check_ended_early(options.validation, saved.state.validated, options.saving.resume)
    check_has_images(options.validation, validation)
    return _planned(options, ImageSource(data), data, validation, saved)


def planned_custom(options: TrainingScript, custom: CustomDataset, saved: SavedState | AccelerateState | None = None) -> Inputs:
    """The plan of a run on the batches of a class. Raises UserError for a state that does not match the command."""
    if options.model.train_inpainting and custom.are_latents:
        raise UserError(
            coded(
                "OPT-008",
                f"--train_inpainting: {custom.name} returns latents, which cannot be masked; let --dataset_class return images",
            )
        )
    return _planned(options, custom, custom.filled(), None, saved)


def _planned(
    options: TrainingScript, source: Source, data: FilledData, validation: FilledData | None, saved: SavedState | AccelerateState | None
) -> Inputs:
    training, saving = options.training, options.saving
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batches = EpochSampler(data, 0, processes).batches_per_epoch
    resumed = None
    if saved is not None:
        if isinstance(saved, AccelerateState):
            resumed = accelerate_resumption(saved, saving)
        else:
            resumed = resumption(saved, options, data, processes)
        resumed.state.left_out = tuple(key for key in resumed.state.left_out if key in {record.key for record in data.records})
    start = initial_place(saving, training.gradient_accumulation_steps, batches, resumed)
    if start is None and resumed is not None:
        start = _start(resumed, data, processes)
    elif start is not None and resumed is not None:
        resumed = _moved(resumed, start, saving)
    plan = make_plan(
        batches,
        accumulation=training.gradient_accumulation_steps,
        max_train_steps=training.max_train_steps,
        max_train_epochs=training.max_train_epochs,
        warmup=options.optimizer.lr_warmup_steps,
        save_every_n_epochs=saving.save_every_n_epochs,
        save_n_epoch_ratio=saving.save_n_epoch_ratio,
        save_every_n_steps=saving.save_every_n_steps,
        save_at_steps=saving.save_at_steps,
        save_from_epoch=saving.save_from_epoch,
        start=start,
    )
    if start is not None:
        _refuse_finished(start, plan, training.max_train_epochs, f"--resume {resumed.folder}" if resumed else "--initial_step")
    if isinstance(saved, SavedState) and resumed:
        resumed = replace(
            resumed, lines=(*resumed.lines, *end_lines(saved.run, options.optimizer.lr_warmup_steps, plan.updates, resumed.state.step))
        )
    return Inputs(source, data, plan, processes, resumed, start, validation)


def initial_place(options: SavingOptions, accumulation: int, batches_per_epoch: int, resumed: Resumption | None = None) -> Start | None:
    """The start of `--initial_step` or `--initial_epoch`, or of an accelerate state without a position; None where neither is used.

    The epoch in progress starts again, unless `--skip_until_initial_step` skips the batches before the step.
    """
    per_epoch = -(-batches_per_epoch // accumulation)
    if options.initial_step is not None:
        step = options.initial_step
    elif options.initial_epoch is not None:
        step = (options.initial_epoch - 1) * per_epoch
    elif resumed is not None and resumed.accelerate is not None:
        step = resumed.state.step
    else:
        return None
    epoch, inside = divmod(step, per_epoch)
    done = inside * accumulation if options.skip_until_initial_step else 0
    return Start(step, epoch, batches_per_epoch - done, done)


def _moved(resumed: Resumption, start: Start, options: SavingOptions) -> Resumption:
    """The resumption with the counters of `start`."""
    state = replace(
        resumed.state, step=start.step, epoch=start.epoch, position=start.position, cuts=(), epoch_losses=[], mean=resumed.state.mean
    )
    asked = ""
    if options.initial_step is not None:
        asked = f"--initial_step {options.initial_step}"
    elif options.initial_epoch is not None:
        asked = f"--initial_epoch {options.initial_epoch}"
    lines = (f"{asked} replaces the state's count, {resumed.state.step}",) if asked else ()
    return replace(resumed, state=state, lines=(*resumed.lines, *lines))


def _start(resumed: Resumption, data: FilledData, processes: int) -> Start:
    state = resumed.state
    length = EpochSampler(data, state.seed, processes, resumed.begun()).length(state.epoch)
    if state.position > length:
        raise UserError(
            coded(
                "STATE-002",
                f"--resume {resumed.folder}: says that {counted(state.position, 'batch', 'batches')} of epoch {state.epoch + 1} "
                f"{verb(state.position, 'is', 'are')} done, which has {length}; "
                "the state is damaged, use an older one",
            )
        )
    return Start(state.step, state.epoch, length - state.position, state.position)


def _all(updates: int) -> str:
    return "its only update" if updates == 1 else f"all {updates} updates"


def _refuse_finished(start: Start, plan: RunPlan, max_train_epochs: int | None, place: str) -> None:
    if plan.updates <= start.step:
        option = f"--max_train_steps (now {plan.updates})" if max_train_epochs is None else f"--max_train_epochs (now {max_train_epochs})"
        raise UserError(coded("STATE-006", f"{place}: has done {_all(start.step)}, so nothing is left to train; raise {option}"))


def _blueprint(options: DataOptions, defaults: dict[str, object], forms: frozenset[str]) -> DatasetBlueprint:
    """`defaults` are options by name, the defaults of the dataset config's keys of the same name."""
    if options.dataset_config is not None:
        return read_config(options.dataset_config, defaults, forms)
    if options.in_json is not None:
        if METADATA not in forms:
            raise UserError(
                coded(
                    "DATA-008",
                    "--in_json: this script takes caption files and class tokens, not metadata; use train_network.py or fine_tune.py",
                )
            )
        return from_metadata(options.train_data_dir, options.in_json, options.dataset_repeats, defaults, options.conditioning_data_dir)
    if DREAMBOOTH not in forms:
        raise UserError(
            coded("DATA-008", "--train_data_dir: this script needs the metadata of its images; add --in_json meta.json or --dataset_config")
        )
    assert options.train_data_dir is not None  # checked by `data_source`
    return from_folders(options.train_data_dir, options.reg_data_dir, defaults, options.conditioning_data_dir)


def tell(inputs: Inputs, max_train_epochs: int | None) -> None:
    """Log what was found and what will be done: images, regularization, buckets, then the plan (SPEC R6)."""
    for finding in (*inputs.data.findings, *small_images(inputs.data)):
        log.warning(str(finding))
    lines = data_lines(inputs)
    lines += inputs.plan_lines(max_train_epochs)
    for line in lines:
        log.info(line)
    if inputs.resumed is not None:
        _tell_resumed(inputs.resumed)


def data_lines(inputs: Inputs) -> list[str]:
    """What was found to train on, and to validate with."""
    lines = inputs.source.lines(inputs.processes)
    if inputs.validation is not None:
        count = len(inputs.validation.records)
        lines.append(f"validation: {count} image{'s' if count > 1 else ''}, not trained on")
    return lines


def _tell_resumed(resumed: Resumption) -> None:
    state = resumed.state
    seed = f", seed {state.seed}" if resumed.accelerate is None else ""
    log.info(f"resuming from {resumed.folder}: update {state.step} done, epoch {state.epoch + 1}{seed}")
    for line in resumed.lines:
        log.warning(f"changed since the state was saved: {line}" if resumed.accelerate is None else line)
