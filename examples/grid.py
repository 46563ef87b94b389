"""Draws a before/after sheet: what was shown to the model on top, below it a row for each prompt and a column for each moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, PALE, PAPER, MARK = (32, 33, 36), (110, 113, 118), (255, 255, 255), (16, 128, 128)
MARGIN, GAP, LABELS, LEAST_STRIP = 28, 10, 230, 96  # pixels
TITLE, TEXT, SMALL = 26, 18, 15  # font sizes


@dataclass(frozen=True)
class Row:
    """A prompt, a word on what to look for, and its pictures, one for each column."""

    prompt: str
    remark: str
    pictures: Sequence[Image.Image]


def draw_grid(
    title: str, shown: Sequence[Image.Image], shown_label: str, columns: Sequence[str], rows: Sequence[Row], cell: int = 128
) -> Image.Image:
    """The sheet; pictures are enlarged to `cell` pixels, the first column is set apart as the state before."""
    apart = 2 * GAP  # between the state before and those after
    across = LABELS + apart + len(columns) * (cell + GAP)
    small = min(cell, (across - LABELS - GAP * len(shown)) // max(len(shown), 1))
    width = across + 2 * MARGIN
    strip = max(small, LEAST_STRIP)
    tops = _tops(strip, cell, len(rows))
    sheet = Image.new("RGB", (width, tops[-1]), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, INK, _font(TITLE))
    _label(pen, tops[0], strip, shown_label, "")
    for place, picture in enumerate(shown):
        sheet.paste(_fitted(picture, small), (MARGIN + LABELS + place * (small + GAP), tops[0] + (strip - small) // 2))
    lefts = [MARGIN + LABELS + place * (cell + GAP) + (apart if place else 0) for place in range(len(columns))]
    for left, column in zip(lefts, columns, strict=True):
        pen.text((left + cell / 2, tops[1] - GAP - 2), column, MARK if left != lefts[0] else INK, _font(TEXT), anchor="ms")
    for top, row in zip(tops[1:], rows, strict=False):
        _label(pen, top, cell, f"“{row.prompt}”", row.remark)
        for left, picture in zip(lefts, row.pictures, strict=True):
            sheet.paste(_fitted(picture, cell), (left, top))
    return sheet


def _tops(shown: int, cell: int, rows: int) -> list[int]:
    """Where the strip of shown pictures, each row and the end of the sheet lie."""
    first = MARGIN + TITLE + 2 * GAP
    start = first + shown + 2 * GAP + TEXT + 2 * GAP
    return [first, *(start + row * (cell + GAP) for row in range(rows)), start + rows * (cell + GAP) - GAP + MARGIN]


def _label(pen: ImageDraw.ImageDraw, top: int, height: int, text: str, remark: str) -> None:
    lines = [(line, INK, TEXT) for line in _wrapped(text, TEXT)] + [(line, PALE, SMALL) for line in _wrapped(remark, SMALL)]
    y = top + (height - sum(size + 5 for *_, size in lines)) / 2
    for line, colour, size in lines:
        pen.text((MARGIN, y), line, colour, _font(size))
        y += size + 5


def _wrapped(text: str, size: int) -> list[str]:
    """Lines of words that fit beside the pictures."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(size).getlength(longer) <= LABELS - 2 * GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture in a square of `side` pixels, enlarged smoothly, nothing cut off."""
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # the one that comes with Pillow: the same on every system
