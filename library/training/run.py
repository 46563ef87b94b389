"""A whole run, top to bottom: refuses everything that can be refused before torch is imported, then trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from library.caption_rewriting import RewriteCaption
from library.console import is_main_process, log, only_tells, tell_as
from library.errors import UserError, coded
from library.files import tidy
from library.hub import fetch_state
from library.light_imports.models import import_models
from library.method import Method
from library.model.files.facts import check_flags, inspect
from library.options.groups.scripts import TrainingScript
from library.options.rules.check import check
from library.options.rules.declared_paths import own_input_faults
from library.options.rules.launch_rules import compile_backend
from library.paths.faults import new_text_fault
from library.paths.look import expanded
from library.training.logs.tracker_settings import tracker_settings
from library.training.optim.choices import check_choices
from library.training.planning.collection import seldom_collected
from library.training.planning.inputs import ALL_FORMS, Inputs, gather, tell
from library.training.planning.new_word_check import word_lines
from library.training.report.dry_run import Expected, examine
from library.training.report.preview import preview, tell_report
from library.training.samples.sample_lines import sample_lines
from library.training.samples.samples import SAMPLES, Samples
from library.training.saving.checkpointer import names_of
from library.training.saving.overwritten import overwritten
from library.training.states.accelerate_state import AccelerateState
from library.training.states.saved_state import SavedState, read_state

S = TypeVar("S", bound=TrainingScript)


def run(
    options: S,
    make_method: Callable[[S], Method],
    expected: Expected[S],
    forms: frozenset[str] = ALL_FORMS,
    look_at: Callable[[S, Inputs], None] | None = None,
    rewrite: Callable[[S], RewriteCaption | None] | None = None,
) -> None:
    """Train what `options` describe with the method that `make_method` builds.

    `expected` returns how many weights it saves and trains; `forms` are the kinds of dataset that the script takes.
    `look_at(options, inputs)` is the script's own check of captions and images, before anything heavy is loaded; `rewrite(options)` returns
    what its method does to captions. With --dry_run or --debug_dataset everything is read and shown, and nothing is trained. Raises
    UserError for everything that the user can fix, before anything is written.
    """
    _tell_as_asked(options)
    rewriter = rewrite(options) if rewrite is not None else None
    if options.data.dry_run:
        with seldom_collected():
            report = examine(options, forms, look_at, rewriter, expected)
        tell_report(report, options, rewriter)
        return
    if is_main_process() and options.saving.output_dir is not None:
        _tidy_up(options)
    check(options)
    check_choices(options)
    tracker_settings(options)  # reports a wrong name in that file now
    saved = _saved(options)
    facts = inspect(options.model.start)
    model = options.model
    check_flags(facts, model.v2, model.v_parameterization, model.vae, model.clip_skip, model.train_inpainting)
    inputs = gather(options, forms, saved)
    if look_at is not None:
        look_at(options, inputs)
    samples = Samples.from_options(options)
    tell(inputs, options.training.max_train_epochs)
    for line in (*word_lines(options), *sample_lines(samples, inputs.plan, inputs.start, inputs.resolutions)):
        log.info(line)
    if options.data.debug_dataset:
        preview(options, inputs, rewriter)
        return
    for finding in overwritten(options, facts):
        log.warning(str(finding))

    only_tells()
    training = options.training
    import_models(compiled=compile_backend(training.torch_compile, training.dynamo_backend) is not None)
    from library.training.assemble import train_model  # torch, diffusers and transformers: seconds

    train_model(options, inputs, make_method(options), samples)


def _tidy_up(options: TrainingScript) -> None:
    """Remove files of interrupted runs; in other folders, the first file that this run writes does it (`files.atomic_write`)."""
    saving = options.saving
    folders = [Path(folder) for folder in (saving.output_dir, saving.spare_dir) if folder is not None]
    names = names_of(saving.output_name, options.product_suffixes)
    removed = [name for folder in folders for name in tidy(folder, names)]
    removed += [f"{SAMPLES}/{name}" for name in tidy(saving.folder / SAMPLES)]
    if removed:
        log.info(f"removed incomplete files from an interrupted run: {', '.join(removed)}")


def _tell_as_asked(options: TrainingScript) -> None:
    """Apply --console_log_level and --console_log_file."""
    file = options.logging.console_log_file
    if file is not None and file != os.devnull:
        if fault := new_text_fault(expanded(Path(file))):
            raise UserError(fault.reworded(f"{options.origin('console_log_file')}: {fault}"))
        if faults := [*own_input_faults(options, "console_log_file")]:
            raise UserError(*faults)
    try:
        tell_as(options.logging.console_log_level, None if file is None else expanded(Path(file)))
    except OSError as fault:
        reason = fault.strerror or str(fault)
        place = f"{options.origin('console_log_file')}: {file}"
        raise UserError(coded("DISK-004", f"{place}: cannot be written ({reason}); choose a file in an existing folder")) from None


def _saved(options: TrainingScript) -> SavedState | AccelerateState | None:
    """Read the state to resume from, downloaded from the Hub if the options say so."""
    resume = options.saving.resume
    if resume is None:
        return None
    return read_state(fetch_state(resume, options.hub.huggingface_token) if options.hub.resume_from_huggingface else Path(resume))
