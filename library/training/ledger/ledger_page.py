"""`<name>.images.html`: a self-contained page with a card per image, sorted by hardest, learned least or learned most."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from library.data.inspection.draw_preview import as_jpeg
from library.data.pixels.images import read_rgb, resize
from library.errors import UserError
from library.files import is_image
from library.paths.opening import read_text
from library.training.ledger.standings import Part, Standing
from library.words import counted

MOST_OF_AN_ORDER = 100  # cards; there are three orders
SIDE = 240  # pixels of a thumbnail's longer side
_MOST_TEXTS = 4
_FACTOR = 4.0  # a bar ends at this many times the usual loss, and at 1/this
_SCRIPT = """
const grid = document.querySelector(".grid"), cards = [...grid.children], buttons = [...document.querySelectorAll("nav button")];
const classes = document.querySelector("#classes");
let order = "hardest";
const show = () => {
  cards.sort((one, other) => one.dataset.class - other.dataset.class || one.dataset[order] - other.dataset[order]);
  let place = 0;
  for (const card of cards) {
    card.hidden = card.dataset.class === "1" && classes && !classes.checked;
    card.querySelector(".place").textContent = card.dataset[order] < 1e9 ? card.dataset[order] : "–";
    grid.append(card);
  }
  for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.order === order);
};
for (const button of buttons) button.onclick = () => { order = button.dataset.order; show(); };
if (classes) classes.onchange = show;
addEventListener("keydown", event => { const button = buttons[Number(event.key) - 1]; if (button) button.click(); });
show();
"""


class Thumbnails:
    """Thumbnails as data: URLs; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        """The markup of the image, or of a text in its place."""
        if path not in self._known:
            self._known[path] = _thumbnail(Path(path))
        return self._known[path]


def as_page(name: str, images: Sequence[Standing], updates: int, picture: Callable[[str], str]) -> str:
    """The page of the run `name` as text; with very many images it shows only the first ones of each order."""
    shown = chosen(images)
    classes = sum(one.image.is_class for one in images)
    some = f", {len(shown)} of them here: the first in each order; the file next to this page has all" if len(shown) < len(images) else ""
    summary = f"{counted(len(images), 'image')}{some} · {sum(one.times for one in images):,} uses in {counted(updates, 'update')}"
    also = f'<label><input type="checkbox" id="classes"> {counted(classes, "class image")}</label>' if classes else ""
    orders = (("hardest", "hardest"), ("least", "learned least"), ("most", "learned most"))
    buttons = "".join(
        f'<button type="button" data-order="{key}" title="key {place}">{text}</button>' for place, (key, text) in enumerate(orders, 1)
    )
    last = max((one.most_learned or 0 for one in images), default=0)
    cards = "".join(_card(one, last, picture) for one in shown)
    style = read_text(Path(__file__).with_name("ledger_page.css"), "utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(name)} · images</title>\n<style>\n{style}</style></head>\n<body>\n"
        f"<header><h1>{escape(name)}: its images</h1><p>{summary}</p>\n{_HOW}</header>\n"
        f'<nav>{buttons}{also}</nav>\n<div class="grid">\n{cards}</div>\n<script>{_SCRIPT}</script>\n</body></html>\n'
    )


_HOW = (
    '<p class="how"><b>Hard</b>: its loss relative to the usual loss at the same timesteps; 1 is usual. Check the '
    "first ones: a caption that does not match, an image that does not belong. <b>Learned</b>: how much of its loss has gone "
    "since the start of the run. The bars are the timesteps from little noise (detail) to much (composition); the line is its "
    "loss over the epochs, the grey one the usual loss of the whole run.</p>\n"
)


def chosen(images: Sequence[Standing]) -> list[Standing]:
    """The first `MOST_OF_AN_ORDER` of each order, and as many class images; images without figures only where all images fit."""
    if len(images) <= 3 * MOST_OF_AN_ORDER:
        return list(images)
    keys: set[str] = set()
    for is_class in (False, True):
        mine = [one for one in images if one.image.is_class == is_class and one.hardest is not None]
        learned = sorted(mine, key=lambda one: one.most_learned or 0)
        first = (
            *mine[:MOST_OF_AN_ORDER],
            *learned[:MOST_OF_AN_ORDER],
            *learned[len(learned) - MOST_OF_AN_ORDER if len(learned) > MOST_OF_AN_ORDER else 0 :],
        )
        keys |= {one.image.key for one in first}
    return [one for one in images if one.image.key in keys]


def _card(one: Standing, last: int, picture: Callable[[str], str]) -> str:
    least = 10**9 if one.most_learned is None else last + 1 - one.most_learned
    orders = {"hardest": one.hardest or 10**9, "least": least, "most": one.most_learned or 10**9, "class": int(one.image.is_class)}
    data = " ".join(f'data-{key}="{value}"' for key, value in orders.items())
    label = '<span class="class-image">class image</span>' if one.image.is_class else ""
    name = f'<b title="{escape(one.image.path)}">{escape(Path(one.image.path).name)}</b>'
    sizes = ", ".join(f"{width}×{height}" for (width, height), _ in one.sizes)
    facts = f"<small>{'not shown yet' if not one.times else f'{one.times}× shown'}{' · ' + sizes if sizes else ''}</small>"
    place = f'<span class="place">{one.hardest or "–"}</span>'
    body = f"{name}{facts}{''.join(_measured(one))}{_captions(one)}"
    return f"<figure {data}>{picture(one.image.path)}{place}{label}<figcaption>{body}</figcaption></figure>\n"


def _measured(one: Standing) -> Iterable[str]:
    if one.measured is None:
        return
    hardness, learned = one.measured.hardness, one.measured.learned
    high = ' class="high"' if hardness.low > 1 else ""
    within = f"95 %: {hardness.low:.2f} to {hardness.high:.2f}"
    share = f"95 %: {learned.low:.0%} to {learned.high:.0%}"
    yield f'<div class="figures"><div{high} title="{within}"><strong>{hardness.value:.2f}×</strong><small>the usual loss</small></div>'
    yield f'<div title="{share}"><strong>{learned.value:.0%}</strong><small>learned</small></div></div>'
    yield f'<div class="bars">{"".join(map(_bar, one.measured.by_timestep))}</div>'
    yield _course(one.measured.by_epoch)


def _bar(part: Part) -> str:
    """A range of timesteps: a loss above the usual extends to the right of the middle, one below it to the left."""
    if part.times_usual is None:
        return f"<span>{part.first}–{part.last}</span><i></i><span>–</span>"
    reach = 50 * _reach(part.times_usual, _FACTOR)
    bar = f'<u class="{"high" if reach > 0 else ""}" style="left:{50 + min(0.0, reach):.1f}%;width:{abs(reach):.1f}%"></u>'
    return f'<span>{part.first}–{part.last}</span><i title="{counted(part.times, "showing")}">{bar}</i><span>{part.times_usual:.2f}×</span>'


def _reach(factor: float, most: float) -> float:
    """The position of a factor on a scale from 1/`most` to `most`: −1 … 1."""
    return max(-1.0, min(1.0, math.log(max(factor, 1e-9)) / math.log(most)))


def _course(parts: Sequence[Part]) -> str:
    """A line over the epochs on a scale of factors; the grey line is the usual loss of the whole run."""
    points = [(place, part.times_usual) for place, part in enumerate(parts) if part.times_usual is not None]
    if len(points) < 2:
        return ""
    line = " ".join(f"{100 * place / (len(parts) - 1):.1f},{15 - 14 * _reach(value, 2 * _FACTOR):.1f}" for place, value in points)
    said = " → ".join(f"{value:.2f}" for _, value in points)
    return (
        f'<svg viewBox="0 0 100 30" preserveAspectRatio="none"><title>over the epochs: {said} times the usual loss of the run</title>'
        f'<line x1="0" x2="100" y1="15" y2="15"/><polyline points="{line}"/></svg>'
    )


def _captions(one: Standing) -> str:
    rows = "".join(f"<li>{_text(text, times)}</li>" for text, times in one.captions[:_MOST_TEXTS])
    rest = one.times - sum(times for _, times in one.captions[:_MOST_TEXTS])
    more = f'<li class="quiet">… and others, {rest}×</li>' if rest else ""
    return f"<ul>{rows}{more}</ul>" if rows or more else ""


def _text(text: str, times: int) -> str:
    return (escape(text) if text else '<span class="quiet">(no text)</span>') + f' <span class="quiet">{times}×</span>'


def _thumbnail(path: Path) -> str:
    if not is_image(path):
        return '<div class="none">no image available</div>'
    try:
        pixels = read_rgb(path, (SIDE, SIDE))
    except (UserError, OSError):
        return '<div class="none">the image can no longer be read</div>'
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    small = resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
    data = base64.b64encode(as_jpeg(small)).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="" loading="lazy" decoding="async">'
