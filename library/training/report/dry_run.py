"""--dry_run: reads everything that a run would read, and reports all problems with their remedies; nothing is trained."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from library.caption_rewriting import RewriteCaption
from library.console import log
from library.data.config.blueprint import AS_PREPARED, DatasetBlueprint
from library.data.inspection.bucket_facts import BucketFacts, bucket_facts, bucket_findings
from library.data.inspection.first_visit import visit_folders
from library.data.inspection.inspection import inspect as inspect_data
from library.data.scan.findings import ERROR, LEVELS, NOTE, WARNING, Finding
from library.data.scan.records import Scan, survey
from library.data.scan.scan_index import ScanIndex
from library.errors import UserError
from library.method import ExpectedWeights
from library.model.family import ModelFamily, PartSizes
from library.model.files.facts import ModelFacts, check_flags
from library.model.files.facts import inspect as inspect_model
from library.options.groups.data import DataOptions
from library.options.groups.scripts import TrainingScript
from library.options.rules.check import check
from library.options.rules.path_rules import is_missing_model
from library.paths.look import exists
from library.training.logs.tracker_settings import tracker_settings
from library.training.memory.base_copy import copy_lines
from library.training.optim.choices import check_choices
from library.training.planning.custom_dataset import open_custom
from library.training.planning.data_facts import tag_frequency
from library.training.planning.inputs import Inputs, blueprint_of, data_lines, planned, planned_custom
from library.training.planning.new_word_check import word_lines
from library.training.report.caption_findings import caption_findings
from library.training.samples.sample_lines import sample_lines
from library.training.samples.samples import Samples
from library.training.saving.disk_need import DiskNeed, Expect, disk_need
from library.training.saving.overwritten import overwritten
from library.training.states.accelerate_state import AccelerateState
from library.training.states.saved_state import SavedState, read_state
from library.words import in_words

S = TypeVar("S", bound=TrainingScript)
Expected = Callable[[S, PartSizes, ModelFamily], ExpectedWeights]  # from a script's options, the sizes of the model's parts and its family
Result = TypeVar("Result")
Look = Callable[[Inputs], None]  # a script's own check of captions and images


@dataclass(frozen=True)
class Report:
    """What a dry run reports. `inputs` and everything derived from it are missing if the images could not be read at all."""

    script: str
    findings: tuple[Finding, ...]  # most severe first
    inputs: Inputs | None = None
    data: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()
    buckets: tuple[BucketFacts, ...] = ()
    tags: tuple[tuple[str, dict[str, int]], ...] = ()  # (folder, images per tag, most frequent first)
    disk: DiskNeed | None = None

    def of_level(self, level: str) -> list[Finding]:
        """Return the findings of one level."""
        return [one for one in self.findings if one.level == level]


def examine(
    options: S,
    forms: frozenset[str],
    look_at: Callable[[S, Inputs], None] | None,
    rewrite: RewriteCaption | None,
    expected: Expected[S],
) -> Report:
    """Read all that the run reads before torch, and decode every image; problems that the user can fix become findings."""
    findings: list[Finding] = []
    attempt = _Attempts(findings)
    model, data = options.model, options.data
    look = None if look_at is None else partial(look_at, options)
    with _warnings_as(findings):
        attempt(lambda: check(options))
        attempt(lambda: check_choices(options))
        attempt(lambda: tracker_settings(options))
        facts = None
        if model.pretrained_model_name_or_path and not is_missing_model(model.pretrained_model_name_or_path):  # `check` reports it
            facts = attempt(lambda: inspect_model(model.start))
        if facts is not None:
            flags = (model.v2, model.v_parameterization, model.vae, model.clip_skip, model.train_inpainting)
            attempt(lambda: check_flags(facts, *flags))
        samples = attempt(lambda: Samples.from_options(options))
        expect = None if facts is None else partial(_expected, expected, options, facts.family)
        blueprint = attempt(lambda: blueprint_of(data, options.validation, forms)) if _names_images(data) else None
        report = Report(options.name, ())
        if data.dataset_class is not None:
            report = _of_custom(options, facts, attempt, look, expect)
        elif blueprint is not None:
            report = _of_images(options, blueprint, facts, attempt, look, rewrite, expect)
        if report.inputs is not None:
            inputs = report.inputs
            report = replace(report, plan=(*report.plan, *sample_lines(samples, inputs.plan, inputs.start, inputs.resolutions)))
        findings += overwritten(options, facts)
    findings = list(dict.fromkeys(findings))  # one error may be reported twice: as an option, and where it is used
    return replace(report, findings=tuple(sorted(findings, key=lambda one: LEVELS.index(one.level))))


def _expected(expected: Expected[S], options: S, family: ModelFamily, sizes: PartSizes) -> ExpectedWeights:
    return expected(options, sizes, family)


def _names_images(options: DataOptions) -> bool:
    """Return whether there are images to read; `check` has reported what is missing."""
    if options.dataset_class is not None:
        return False
    sources = (options.dataset_config, options.train_data_dir, options.in_json)
    named = next((source for source in sources if source is not None), None)
    return named is not None and exists(Path(named)) and (options.dataset_config is not None or _old_form_is_whole(options))


def _old_form_is_whole(options: DataOptions) -> bool:
    return options.resolution is not None if options.in_json is None else exists(Path(options.in_json))


def _of_images(
    options: TrainingScript,
    blueprint: DatasetBlueprint,
    facts: ModelFacts | None,
    attempt: _Attempts,
    look: Look | None,
    rewrite: RewriteCaption | None,
    expect: Expect | None,
) -> Report:
    """Build the part of the report that needs the images; images with errors are left out of the figures."""
    index = ScanIndex()
    visit_folders(blueprint, index)
    surveyed = survey(blueprint, index, options.data.skip_bad_images)
    attempt.findings += [Finding.from_line(ERROR, fault.line) for fault in surveyed.faults]
    attempt.findings += surveyed.findings
    attempt.findings += inspect_data(surveyed, index)
    index.save()
    report = Report(options.name, ())
    if not surveyed.records or any(spec.options.resolution == AS_PREPARED for spec in surveyed.blueprint.datasets):
        return report
    saved = _state_of(options, attempt)
    inputs = attempt(lambda: planned(options, Scan(surveyed.blueprint, surveyed.records, ()), saved))
    if inputs is None:
        return report
    filled = inputs.data
    attempt.findings += [Finding.from_line(WARNING, line) for line in filled.findings]
    if look is not None:
        attempt(lambda: look(inputs))
    attempt.findings += caption_findings(options, filled, facts, rewrite)
    buckets = bucket_facts(filled, inputs.processes)
    attempt.findings += bucket_findings(filled, buckets, inputs.processes)
    attempt.findings += _plan_findings(inputs)
    disk = _disk(options, facts, inputs, attempt, expect)
    return Report(
        options.name,
        (),
        inputs,
        tuple(data_lines(inputs)),
        (*_plan_lines(options, inputs), *(attempt(lambda: copy_lines(options, facts)) or ())),
        tuple(buckets),
        tuple(tag_frequency(filled).items()),
        disk,
    )


def _state_of(options: TrainingScript, attempt: _Attempts) -> SavedState | AccelerateState | None:
    """Read the state to resume from if it is on the disk: a report downloads nothing."""
    resume = options.saving.resume
    if resume is None or options.hub.resume_from_huggingface:
        return None
    return attempt(lambda: read_state(Path(resume)))


def _plan_lines(options: TrainingScript, inputs: Inputs) -> tuple[str, ...]:
    lines = inputs.plan_lines(options.training.max_train_epochs)
    return (*lines, *word_lines(options))


def _disk(options: TrainingScript, facts: ModelFacts | None, inputs: Inputs, attempt: _Attempts, expect: Expect | None) -> DiskNeed | None:
    """Estimate the disk space for the run's files; adds a finding if it exceeds the free space."""
    disk = None
    if facts is not None and expect is not None and options.saving.output_dir:
        disk = attempt(lambda: disk_need(options, facts, inputs.plan, inputs.data, expect))
    if disk is not None and disk.total is not None and disk.total > disk.free:
        text = f"--output_dir {disk.folder}: the files need {in_words(disk.total)}, {in_words(disk.free)} are free"
        attempt.findings.append(Finding(WARNING, text, "free some space, save less often, or set --save_last_n_epochs"))
    return disk


def _of_custom(options: TrainingScript, facts: ModelFacts | None, attempt: _Attempts, look: Look | None, expect: Expect | None) -> Report:
    """Build the part of the report for a custom dataset class: it is imported and created, and all its batches are requested."""
    report = Report(options.name, ())
    custom = attempt(lambda: open_custom(options))
    if custom is None:
        return report
    attempt.findings += [Finding.from_line(ERROR, fault.line) for fault in custom.faults()]
    text = f"--dataset_class {custom.name}: is imported for this report and its batches are loaded, which can take time"
    attempt.findings.append(Finding(NOTE, text, "its random numbers are not those of the run"))
    saved = _state_of(options, attempt)
    inputs = attempt(lambda: planned_custom(options, custom, saved))
    if inputs is None:
        return report
    attempt.findings += [Finding.from_line(WARNING, line) for line in custom.first.hints]
    if look is not None:
        attempt(lambda: look(inputs))
    attempt.findings += _plan_findings(inputs)
    disk = _disk(options, facts, inputs, attempt, expect)
    return Report(options.name, (), inputs, tuple(data_lines(inputs)), _plan_lines(options, inputs), disk=disk)


def _plan_findings(inputs: Inputs) -> Iterator[Finding]:
    plan = inputs.plan
    if plan.updates < plan.updates_per_epoch:
        text = f"the run ends after {plan.updates} of the {plan.updates_per_epoch} updates of its first epoch: images are shown less often"
        yield Finding(WARNING, text, f"set --max_train_steps {plan.updates_per_epoch} or more, or lower num_repeats")


class _Attempts:
    """Runs what may raise UserError and turns its lines into findings."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __call__(self, act: Callable[[], Result]) -> Result | None:
        try:
            return act()
        except UserError as fault:
            self.findings += [Finding.from_line(ERROR, line) for line in fault.lines]
            return None


class _WarningsToFindings(logging.Handler):
    """Turns logged warnings into findings; information is dropped."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(logging.WARNING)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        self._findings.append(Finding.from_line(WARNING, record.getMessage()))


@contextlib.contextmanager
def _warnings_as(findings: list[Finding]) -> Iterator[None]:
    """Collect the warnings that the run would log as findings instead of printing them."""
    before = log.handlers[:]
    log.handlers[:] = [_WarningsToFindings(findings)]
    try:
        yield
    finally:
        log.handlers[:] = before
