"""The report of a dry run as text for a terminal or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from library.data.batching.buckets import FilledData
from library.data.inspection.bucket_facts import BucketFacts
from library.data.scan.findings import ERROR, LEVELS, NOTE, WARNING
from library.training.report.dry_run import Report
from library.words import counted, in_words

MOST_TAGS = 20
_LONGEST_TAG = 60  # characters
WOULD_START, WOULD_FAIL = "the run would start", "the run would fail"
TITLES = {ERROR: "ERRORS", WARNING: "WARNINGS", NOTE: "NOTES"}


def as_text(report: Report) -> str:
    """Return the whole report; findings and the verdict come last, so that a terminal shows them."""
    return "\n".join([f"{report.script}, dry run: nothing is trained", *_figures(report), *_findings(report), "", verdict(report)]) + "\n"


def verdict(report: Report) -> str:
    """Return how many findings each level has, and that the run would start if there are no errors."""
    errors, warnings, notes = (len(report.of_level(level)) for level in LEVELS)
    counts = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}, {counted(notes, 'note')}"
    return counts if errors else f"{counts}: {WOULD_START}"


def _figures(report: Report) -> Iterator[str]:
    if report.inputs is None:
        return
    yield from ("", "IMAGES")
    yield from (f"  {line}" for line in report.data if not line.lstrip().startswith("bucket "))
    if report.buckets:
        yield from ("", "BUCKETS")
        yield from table(bucket_rows(report.inputs.data, report.buckets))
    yield from ("", "PLAN")
    yield from (f"  {line}" for line in report.plan)
    if report.disk is not None:
        yield from ("", "DISK SPACE")
        yield from (f"  {line}" for line in report.disk.lines)
        total = "unknown" if report.disk.total is None else f"{in_words(report.disk.total)} at most"
        yield f"  {report.disk.folder}: {total}, {in_words(report.disk.free)} free"
    if not report.tags:
        return
    yield from ("", f"TAGS (the {MOST_TAGS} most frequent of each folder, with the number of images)")
    for folder, tags in report.tags:
        shown = ", ".join(f"{shortened(tag)} {count}" for tag, count in list(tags.items())[:MOST_TAGS])
        yield f"  {folder}: {shown or 'none'}" + (f", … ({len(tags)} in all)" if len(tags) > MOST_TAGS else "")


def shortened(tag: str) -> str:
    """Shorten a tag for a list of tags: a caption without commas is one tag, of any length."""
    return tag if len(tag) <= _LONGEST_TAG else f"{tag[: _LONGEST_TAG - 1].rstrip()}…"


def bucket_rows(filled: FilledData, buckets: Sequence[BucketFacts]) -> list[tuple[str, ...]]:
    """Return the bucket table with its header row."""
    rows: list[tuple[str, ...]] = [("size", "images", "per epoch", "batches", "enlarged", "cropped", "cut off (mean)", "worst crops")]
    for one in buckets:
        worst = ", ".join(f"{filled.records[index].path.name} {share:.0%}" for index, share in one.worst)
        rows.append(
            (
                f"{one.size[0]}×{one.size[1]}",
                str(one.images),
                str(one.shown),
                str(one.batches),
                f"{one.enlarged / one.images:.0%}",
                f"{one.cropped / one.images:.0%}",
                f"{one.mean_cut:.1%}",
                worst or "–",
            )
        )
    return rows


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows with aligned columns; the last column is not padded."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  " + "  ".join([cell.rjust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]])


def _findings(report: Report) -> Iterator[str]:
    for level in LEVELS:
        findings = report.of_level(level)
        if findings:
            yield from ("", TITLES[level])
        for number, one in enumerate(findings, start=1):
            yield f"  {number}. {one.text}"
            if one.remedy:
                yield f"     → {one.remedy}"
