"""`sample/index.html`: every sample image of a run in one grid of prompts and moments, built from the image files alone."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from library.files import NOT_UNICODE, atomic_write
from library.parsing.json_text import parse_json
from library.paths.listing import matching
from library.paths.opening import regular
from library.words import counted

PAGE = "index.html"
FACTS = "training"  # key of the PNG text that records the moment of an image
_NAME = re.compile(r"(?:(?P<run>.*)_)?(?P<moment>e?\d{6,})_(?P<index>\d{2,})_(?P<time>\d{14})(?:_\d+)?\.png")


@dataclass(frozen=True)
class Sample:
    """One image: `moment` is e000003 (after epoch 3) or 000120 (after update 120), `drawn` its date as YYYYmmddHHMMSS."""

    path: Path
    moment: str
    index: int
    drawn: str
    prompt: str
    negative: str
    settings: str
    step: int | None
    size: tuple[int, int]
    session: str | None = None  # identifies the run; None for images of older versions


class SamplePage:
    """The page of `run` in `folder`. It lists all images of the folder, so it includes those from before a resume."""

    def __init__(self, folder: Path, run: str | None) -> None:
        self.folder, self.run = Path(folder), run
        self._known: dict[str, Sample | None] = {}

    def write(self, running: bool) -> Path:
        """Write the page atomically; it reloads automatically while training is `running`. Raises OSError."""
        page = self.folder / PAGE
        with atomic_write(page) as temporary:
            temporary.write_text(page_text(self.run or "samples", self.samples(), running), encoding="utf-8", errors=NOT_UNICODE)
        return page

    def samples(self) -> list[Sample]:
        """Return the images of the run, oldest first; for each prompt and moment only the newest."""
        newest: dict[tuple[str, int, str, str], Sample] = {}
        for path in matching(self.folder, "*.png"):
            if path.name not in self._known:
                self._known[path.name] = _sample(path, self.run)
            if (sample := self._known[path.name]) is not None:
                key = (sample.moment, sample.index, sample.prompt, sample.negative)
                if key not in newest or newest[key].drawn < sample.drawn:
                    newest[key] = sample
        return sorted(newest.values(), key=lambda sample: (sample.drawn, sample.index))


def _sample(path: Path, run: str | None) -> Sample | None:
    """Read a file's name and PNG texts; returns None for a file of another run or another program."""
    named = _NAME.fullmatch(path.name)
    if named is None or named["run"] != run:
        return None
    from PIL import Image

    try:
        with Image.open(regular(path)) as image:
            texts, size = dict(image.text), image.size
        facts = parse_json(texts.get(FACTS, "{}"))
    except (OSError, ValueError, SyntaxError, AttributeError):  # truncated, or not a PNG
        return None
    lines = texts.get("parameters", "").split("\n")
    settings = lines.pop() if len(lines) > 1 else ""
    split = next((place for place, line in enumerate(lines) if line.startswith("Negative prompt: ")), len(lines))
    negative = "\n".join(lines[split:]).removeprefix("Negative prompt: ")
    prompt = "\n".join(lines[:split])
    return Sample(path, named["moment"], int(named["index"]), named["time"], prompt, negative, settings, facts.get("step"), size,
                  facts.get("session"))  # fmt: skip


def page_text(title: str, samples: Sequence[Sample], running: bool) -> str:
    """Return the page: a column per prompt, a row per moment, the newest on top. Links are relative to the images' folder."""
    columns = sorted({(sample.index, sample.prompt, sample.negative) for sample in samples})
    rows: dict[str, dict[tuple[int, str, str], Sample]] = {}
    for sample in samples:
        rows.setdefault(sample.moment, {})[sample.index, sample.prompt, sample.negative] = sample
    latest = {moment: max((sample.drawn, sample.step or 0) for sample in cells.values()) for moment, cells in rows.items()}
    order = sorted(rows, key=lambda moment: (latest[moment], moment), reverse=True)
    heads = "".join(f"<th scope=col>{_prompt(prompt, negative)}</th>" for _, prompt, negative in columns)
    body = "".join(_row(moment, [rows[moment].get(column) for column in columns]) for moment in order)
    state = "training is running; this page reloads automatically" if running else "training has ended"
    counts = f"{counted(len(samples), 'image')}, {counted(len(columns), 'prompt')}"
    summary = f"{counts} · {time.strftime('%Y-%m-%d %H:%M')} · {state}"
    return _PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        heads=heads,
        body=body,
        style=_STYLE,
        script=_SCRIPT.replace("RELOAD", "60" if running else "0"),
    )


def _row(moment: str, cells: Sequence[Sample | None]) -> str:
    shown = next(sample for sample in cells if sample is not None)
    day, clock = shown.drawn[:8], shown.drawn[8:]
    when = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}"
    name = f"epoch {int(moment[1:])}" if moment.startswith("e") else f"update {int(moment)}"
    if not int(moment.lstrip("e")):
        name = "before training"
    step = f"<span>update {shown.step}</span>" if moment.startswith("e") and shown.step else ""
    return f"<tr><th scope=row><b>{name}</b>{step}<span>{when}</span></th>{''.join(_cell(name, sample) for sample in cells)}</tr>\n"


def _cell(moment: str, sample: Sample | None) -> str:
    if sample is None:
        return "<td class=none>–</td>"
    text = html.escape(f"{moment} — {sample.prompt}", quote=True)
    hint = html.escape(sample.settings, quote=True)
    width, height = sample.size
    return (
        f'<td><a href="{quote(sample.path.name)}" title="{hint}" data-text="{text}">'
        f'<img loading=lazy width={width} height={height} src="{quote(sample.path.name)}" alt="{text}"></a></td>'
    )


def _prompt(prompt: str, negative: str) -> str:
    without = f"<p class=negative>{html.escape(negative)}</p>" if negative else ""
    return f"<div class=prompt tabindex=0><p>{html.escape(prompt) or '(empty prompt)'}</p>{without}</div>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · samples</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{summary}</p>
<label>size <input id="size" type="range" min="96" max="768" step="16" value="256"></label>
</header>
<table>
<thead><tr><td></td>{heads}</tr></thead>
<tbody>
{body}</tbody>
</table>
<dialog id="large"><p></p><img alt=""></dialog>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --side: 256px; --back: #f6f6f4; --ink: #1d1d1b; --soft: #6b6b66; --line: #dededa; --card: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161618; --ink: #ececea; --soft: #9a9a96; --line: #2e2e31; --card: #1f1f22; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; align-items: baseline; }
header { padding: 1rem 1.2rem .6rem; position: sticky; left: 0; width: 100vw; }
h1 { font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--soft); }
label { margin-left: auto; color: var(--soft); display: flex; gap: .5rem; align-items: center; }
table { border-collapse: separate; border-spacing: 0; padding: 0 1.2rem 3rem; }
thead > tr > * { position: sticky; top: 0; z-index: 2; vertical-align: bottom; background: var(--back); }
thead > tr > * { border-bottom: 1px solid var(--line); }
th { font-weight: normal; text-align: left; padding: .5rem; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--back); }
tbody th { white-space: nowrap; vertical-align: top; padding-right: 1.2rem; }
tbody th b { display: block; font-weight: 600; }
tbody th span { display: block; color: var(--soft); font-size: .85em; }
.prompt { width: var(--side); max-height: 4.4em; overflow: hidden; cursor: default; }
.prompt:hover, .prompt:focus { max-height: 20em; overflow: auto; }
.prompt p { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.prompt .negative { color: var(--soft); font-size: .85em; }
.prompt .negative::before { content: "not: "; }
tbody td { padding: .5rem; vertical-align: top; }
td.none { color: var(--soft); text-align: center; vertical-align: middle; }
td img { display: block; width: var(--side); height: auto; border-radius: 6px; background: var(--card); box-shadow: 0 0 0 1px var(--line); }
td a:focus-visible img, td a:hover img { box-shadow: 0 0 0 2px var(--ink); }
dialog { border: 0; outline: 0; padding: 0; overflow: hidden; max-width: 96vw; max-height: 96vh; background: none; color: #fff; }
dialog::backdrop { background: rgba(0, 0, 0, .85); }
dialog img { display: block; max-width: 96vw; height: calc(96vh - 3.2em); object-fit: contain; margin: auto; }
dialog p { margin: 0; padding: .4em 0; text-align: center; max-height: 3.2em; overflow: hidden; }
"""

_SCRIPT = """
const size = document.getElementById("size"), large = document.getElementById("large");
const resize = () => { document.documentElement.style.setProperty("--side", size.value + "px"); };
try { size.value = sessionStorage.getItem("side") || size.value; } catch (error) {}
resize();
size.oninput = () => { resize(); try { sessionStorage.setItem("side", size.value); } catch (error) {} };
const grid = [...document.querySelectorAll("tbody tr")].map(row => [...row.querySelectorAll("td")].map(cell => cell.querySelector("a")));
let y = 0, x = 0;
const show = (down, right) => {
  const link = (grid[down] || [])[right];
  if (!link) return;
  [y, x] = [down, right];
  large.querySelector("img").src = link.href;
  large.querySelector("p").textContent = link.dataset.text;
  if (!large.open) large.showModal();
};
grid.forEach((row, down) => row.forEach((link, right) => {
  if (link) link.onclick = event => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); show(down, right); } };
}));
large.onclick = () => large.close();
addEventListener("keydown", event => {
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
  if (large.open && step) { event.preventDefault(); show(y + step[0], x + step[1]); }
});
if (RELOAD) setInterval(() => { if (!large.open) location.reload(); }, RELOAD * 1000);
"""
