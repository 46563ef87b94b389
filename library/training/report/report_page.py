"""The report as one self-contained HTML file: figures, findings, and the crops and captions of the first epoch, bucket by bucket."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from library.console import progress
from library.data.batching.sampler import SampleRequest
from library.data.inspection.bucket_facts import BucketFacts, cut, enlargement
from library.data.inspection.draw_preview import Draws, as_jpeg
from library.data.scan.findings import ERROR, LEVELS, Finding
from library.errors import UserError
from library.paths.opening import read_text
from library.training.report.dry_run import Report
from library.training.report.report_text import WOULD_FAIL, WOULD_START, shortened
from library.words import counted, in_words

MOST_PICTURES = 300  # on the page, shared among all buckets
LEAST_PICTURES = 4  # per bucket, if it has that many
_MOST_FILES = 1000  # listed under a finding
_MOST_TEXTS = 6  # different captions shown for an image
_MOST_TAGS = 60
_SIDE = 240  # pixels of an image's longer side; shown at about two thirds of that
_BAR_FROM = 60  # images; fewer are rendered before anyone could read a progress bar
_OPEN_BUCKETS = 12  # expanded when the page is opened
_STYLE = Path(__file__).with_name("report_page.css")


def as_page(report: Report, draws: Draws | None, seed_given: bool = True) -> str:
    """Return the page as text; without `draws` it has no images."""
    body = "".join(
        [
            _head(report),
            _section("Findings", _findings(report.findings)),
            '<div class="columns">',
            _section("Images", _lines(report.data, "bucket ")),
            _section("Plan", _lines(report.plan)),
            _section("Disk space", _disk_space(report)),
            "</div>",
            _section("Buckets", _bucket_table(report)),
            _section("Tags", _tags(report)),
            _section("Crops and captions of the first epoch", _gallery(report, draws, seed_given)),
        ]
    )
    style = read_text(_STYLE, "utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.script)}: what would be trained</title>\n<style>\n{style}</style></head>\n<body>\n{body}</body></html>\n"
    )


def _section(title: str, content: Iterator[str]) -> str:
    inner = "".join(content)
    return f"<section><h2>{title}</h2>\n{inner}</section>\n" if inner else ""


def _head(report: Report) -> str:
    chips = "".join(
        f'<span class="chip {level}"><b>{len(findings)}</b> {level if len(findings) == 1 else level + "s"}</span>'
        for level in LEVELS
        if (findings := report.of_level(level))
    )
    figures = ""
    if report.inputs is not None:
        plan, data = report.inputs.plan, report.inputs.data
        cells = (
            (len(data.records), "images"),
            (sum(one.shown for one in report.buckets), "per epoch"),
            (len(report.buckets), "buckets"),
            (plan.batches_per_epoch, "batches per epoch"),
            (plan.epochs, "epochs"),
            (plan.updates, "updates"),
        )
        figures = '<dl class="figures">' + "".join(f"<div><dd>{value:,}</dd><dt>{name}</dt></div>" for value, name in cells) + "</dl>"
    said = WOULD_FAIL if report.of_level(ERROR) else WOULD_START
    return f"<header><h1>What <code>{escape(report.script)}</code> would train</h1><p>{said} {chips}</p>{figures}</header>\n"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield '<p class="quiet">Nothing needs your attention.</p>'
    for one in findings:
        remedy = f'<p class="remedy">{escape(one.remedy)}</p>' if one.remedy else ""
        files = ""
        if len(one.files) > 1:
            rows = "".join(f"<li>{escape(file)}</li>" for file in one.files[:_MOST_FILES])
            rest = f"<li>… and {len(one.files) - _MOST_FILES} more</li>" if len(one.files) > _MOST_FILES else ""
            files = f"<details><summary>all {len(one.files)}</summary><ul>{rows}{rest}</ul></details>"
        label = f'<span class="label">{one.level}</span>'
        yield f'<article class="finding {one.level}">{label}<div><p>{escape(one.text)}</p>{remedy}{files}</div></article>\n'


def _lines(lines: Sequence[str], without: str | None = None) -> Iterator[str]:
    shown = [line for line in lines if without is None or not line.lstrip().startswith(without)]
    if shown:
        rows = (f'<li class="{"deeper" if line.startswith(" ") else ""}">{escape(line.strip())}</li>' for line in shown)
        yield f'<ul class="lines">{"".join(rows)}</ul>'


def _bucket_table(report: Report) -> Iterator[str]:
    if report.inputs is None or not report.buckets:
        return
    most = max(one.shown for one in report.buckets)
    heads = ("size", "images", "per epoch", "", "batches", "enlarged", "cropped", "cut off, mean", "worst crops")
    yield '<div class="wide"><table><thead><tr>' + "".join(f"<th>{name}</th>" for name in heads) + "</tr></thead><tbody>\n"
    for one in report.buckets:
        worst = ", ".join(f"{report.inputs.data.records[index].path.name} {share:.0%}" for index, share in one.worst)
        bar = f'<i class="bar" style="width:{max(1, round(100 * one.shown / most))}%"></i>'
        cells = (
            f"<b>{one.size[0]}×{one.size[1]}</b>",
            f"{one.images:,}",
            f"{one.shown:,}",
            bar,
            f"{one.batches:,}",
            _share(one.enlarged / one.images),
            _share(one.cropped / one.images),
            f"{one.mean_cut:.1%}",
            f"<small>{escape(worst) or '–'}</small>",
        )
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    yield "</tbody></table></div>"


def _share(value: float) -> str:
    return f'<span class="{"quiet" if not value else ""}">{value:.0%}</span>'


def _disk_space(report: Report) -> Iterator[str]:
    if report.disk is not None:
        total = "unknown amount" if report.disk.total is None else f"{in_words(report.disk.total)} at most"
        yield from _lines([*report.disk.lines, f"{report.disk.folder}: {total}, {in_words(report.disk.free)} free"])


def _tags(report: Report) -> Iterator[str]:
    for folder, tags in report.tags:
        shown = list(tags.items())[:_MOST_TAGS]
        rest = f' <span class="quiet">… {len(tags)} in all</span>' if len(tags) > _MOST_TAGS else ""
        chips = " ".join(f'<span class="tag">{escape(shortened(tag))} <b>{count}</b></span>' for tag, count in shown)
        yield f'<h3>{escape(folder)}</h3><p class="tags">{chips or "no tags"}{rest}</p>'


def _gallery(report: Report, draws: Draws | None, seed_given: bool) -> Iterator[str]:
    if draws is None or report.inputs is None:
        return
    mine: dict[int, list[SampleRequest]] = defaultdict(list)
    for batch in draws.sampler.epoch(0):
        for request in batch:
            mine[request.record].append(request)
    by_bucket: dict[tuple[int, tuple[int, int]], list[int]] = defaultdict(list)
    for record in sorted(mine):
        by_bucket[draws.filled.records[record].dataset, draws.filled.placements[record].bucket].append(record)
    seed = "" if seed_given else " No --seed is set: the run chooses one at random, with other crops, mirror images and texts."
    yield f'<p class="quiet">The frame is what is trained; the dark area around it is cut off.{seed}</p>'
    shares = [_places(len(by_bucket[one.dataset, one.size]), len(mine)) for one in report.buckets]
    bar = progress(total=sum(shares), label="thumbnails for the report", unit="image") if sum(shares) >= _BAR_FROM else None
    for number, (one, places) in enumerate(zip(report.buckets, shares, strict=True)):
        records = by_bucket[one.dataset, one.size]
        title = _bucket_title(report, one, len(records), places)
        yield f'<details class="bucket"{" open" if number < _OPEN_BUCKETS else ""}><summary>{title}</summary><div class="grid">\n'
        for record in records[:places]:
            yield _card(draws, mine[record])
            if bar is not None:
                bar.update(1)
        yield "</div></details>\n"
    if bar is not None:
        bar.close()


def _places(images: int, all_images: int) -> int:
    return min(images, max(LEAST_PICTURES, MOST_PICTURES * images // max(1, all_images)))


def _bucket_title(report: Report, one: BucketFacts, images: int, shown: int) -> str:
    assert report.inputs is not None
    dataset = f"dataset {one.dataset + 1}, " if len(report.inputs.data.figures) > 1 else ""
    some = f", {shown} of them here" if shown < images else ""
    return f"<b>{dataset}{one.size[0]}×{one.size[1]}</b> {counted(images, 'image')}{some}, {counted(one.batches, 'batch', 'batches')}"


def _card(draws: Draws, requests: Sequence[SampleRequest]) -> str:
    first = requests[0]
    record, placement = draws.filled.records[first.record], draws.filled.placements[first.record]
    try:
        data = base64.b64encode(as_jpeg(draws.with_surroundings(first, _SIDE))).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="" loading="lazy" decoding="async">'
    except UserError as fault:
        picture = f'<p class="remedy">{escape(str(fault))}</p>'
    share, times = cut(placement), enlargement(record, placement)
    facts = [f"{record.size[0]}×{record.size[1]}"]
    facts += [f"{share:.0%} cut off"] if share >= 0.005 else []
    facts += [f"enlarged {times:.1f}×"] if times >= 1.05 else []
    facts += ["regularization"] if record.subset.is_reg else []
    texts = Counter(draws.caption(request) for request in requests)
    rows = "".join(f"<li>{_text(text, count)}</li>" for text, count in list(texts.items())[:_MOST_TEXTS])
    rest = f'<li class="quiet">… {counted(len(texts) - _MOST_TEXTS, "other text")}</li>' if len(texts) > _MOST_TEXTS else ""
    name = f'<b title="{escape(str(record.path))}">{escape(record.path.name)}</b>'
    return f"<figure>{picture}<figcaption>{name}<small>{' · '.join(facts)}</small><ul>{rows}{rest}</ul></figcaption></figure>\n"


def _text(text: str, count: int) -> str:
    times = f' <span class="quiet">{count}×</span>' if count > 1 else ""
    return (escape(text) if text else '<span class="quiet">(no text)</span>') + times
