"""--debug_dataset and the reports of --dry_run: what would be trained, in a window or as a page, before any training."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from library.caption_rewriting import RewriteCaption, keep_caption
from library.console import is_main_process, log
from library.data.inspection.bucket_facts import bucket_facts, bucket_findings
from library.data.inspection.draw_preview import Draws
from library.data.scan.findings import ERROR, WARNING, Finding
from library.errors import UserError, coded, first_line
from library.files import NOT_UNICODE, atomic_write
from library.options.groups.scripts import TrainingScript
from library.options.rules.declared_paths import own_input_faults
from library.paths.faults import new_text_fault
from library.training.planning.custom_dataset import CustomDataset
from library.training.planning.data_facts import tag_frequency
from library.training.planning.inputs import Inputs, data_lines
from library.training.report.custom_preview import PAGE, preview_custom
from library.training.report.dry_run import Report
from library.training.report.report_page import as_page
from library.training.report.report_text import WOULD_FAIL, as_text

_ESCAPE = 27
_LARGEST = 1200  # pixels of a window's longer side


def tell_report(report: Report, options: TrainingScript, rewrite: RewriteCaption | None = None) -> None:
    """Print the report, write it as a page if --report_html is set, and raise UserError if it lists errors."""
    if not is_main_process():
        return
    sys.stdout.write(as_text(report))
    sys.stdout.flush()
    if options.data.report_html is not None:
        if faults := [*own_input_faults(options, "report_html")]:
            raise UserError(*faults)
        _write(options.data.report_html, report, options, rewrite, "--report_html")
    errors = len(report.of_level(ERROR))
    if errors:
        raise UserError(
            coded(
                "TRAIN-006",
                f"--dry_run: {WOULD_FAIL}; fix the {'error' if errors == 1 else 'errors'} listed above",
            )
        )


def preview(options: TrainingScript, inputs: Inputs, rewrite: RewriteCaption | None = None) -> None:
    """Show the images as they would be trained: in a window if there is a screen, otherwise as a page in --output_dir."""
    if not is_main_process():
        return
    if isinstance(inputs.source, CustomDataset):
        preview_custom(options, inputs, inputs.source, rewrite)
        return
    if has_screen():
        try:
            show(draws_of(options, inputs, rewrite))
            return
        except _NoWindow as fault:
            log.info(f"no window can be opened ({fault}); the images are shown in a page instead")
    buckets = tuple(bucket_facts(inputs.data, inputs.processes))
    findings = [Finding.from_line(WARNING, line) for line in inputs.data.findings]
    lines = inputs.plan_lines(options.training.max_train_epochs)
    report = Report(
        options.name,
        (*findings, *bucket_findings(inputs.data, list(buckets), inputs.processes)),
        inputs,
        tuple(data_lines(inputs)),
        tuple(lines),
        buckets,
        tuple(tag_frequency(inputs.data).items()),
    )
    page = options.saving.folder / PAGE
    _write(page, report, options, rewrite, "--output_dir")
    log.info(f"--debug_dataset: nothing is trained; see {page}")


def draws_of(options: TrainingScript, inputs: Inputs, rewrite: RewriteCaption | None) -> Draws:
    """Return the random choices of the run: crops, captions, order. Without --seed, the run's own seed is random and these use seed 0."""
    seed = options.training.seed or 0
    plan = inputs.plan
    return Draws(inputs.data, inputs.sampler(seed), rewrite or keep_caption, plan.updates, plan.accumulation)


def has_screen() -> bool:
    """Return whether a window can be expected to open: always on Windows and macOS, elsewhere if a display is set."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class _NoWindow(Exception):
    """OpenCV cannot open a window here."""


def show(draws: Draws) -> None:
    """Show one image at a time: any key shows the next one, S the next batch, E the next epoch, Esc ends."""
    import cv2

    title = "training images: any key next, S next batch, E next epoch, Esc ends"
    try:
        cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE)
    except cv2.error as fault:  # OpenCV was built without windows
        raise _NoWindow(first_line(fault)) from None
    try:
        for epoch in itertools.count():
            if not _show_epoch(draws, epoch, title):
                return
    finally:
        cv2.destroyAllWindows()


def _show_epoch(draws: Draws, epoch: int, title: str) -> bool:
    """Show one epoch; return False when the user ends the preview."""
    import cv2

    batches = draws.sampler.epoch(epoch)
    for number, batch in enumerate(batches, start=1):
        for place, request in enumerate(batch, start=1):
            record, placement = draws.filled.records[request.record], draws.filled.placements[request.record]
            size = f"{placement.bucket[0]}×{placement.bucket[1]}"
            print(f"epoch {epoch + 1}, batch {number} of {len(batches)}, image {place} of {len(batch)}: {record.path}, {size}")
            print(f"    {draws.caption(request) or '(no text)'}", flush=True)
            pixels = draws.with_surroundings(request, min(_LARGEST, max(placement.resized)))
            cv2.imshow(title, pixels[:, :, ::-1])
            key = _key(title)
            if key == _ESCAPE:
                return False
            if key == ord("e"):
                return True
            if key == ord("s"):
                break
    return True


def _key(title: str) -> int:
    """Wait for a key and return it, letters in lower case; Escape if the window was closed."""
    import cv2

    while True:
        key = cv2.waitKey(100)
        if key != -1:
            return ord(chr(key & 0xFF).lower())
        if cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return _ESCAPE


def _write(path: Path, report: Report, options: TrainingScript, rewrite: RewriteCaption | None, option: str) -> None:
    if wrong := new_text_fault(path):
        raise UserError(wrong.reworded(f"{option}: {wrong}"))
    draws = None if report.inputs is None else draws_of(options, report.inputs, rewrite)
    text = as_page(report, draws, seed_given=options.training.seed is not None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors=NOT_UNICODE, newline="\n")
    except OSError as fault:
        raise UserError(coded("DISK-004", f"{option} {path}: cannot be written ({fault.strerror}); choose another place")) from None
    log.info(f"report: {path}")
