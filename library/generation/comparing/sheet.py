"""The contact sheet: all images of a comparison in one PNG, for sharing."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from library.files import atomic_write
from library.generation.comparing.grid import Grid, loss_line
from library.paths.opening import regular

SHEET = "sheet.png"
_INK, _PALE, _PAPER, _MARK, _LINE = (32, 33, 36), (110, 113, 118), (255, 255, 255), (16, 128, 128), (222, 222, 218)
_MARGIN, _GAP, _APART, _LABELS = 24, 6, 16, 220  # pixels
_TITLE, _TEXT, _SMALL = 24, 16, 13  # font sizes
_LEAST, _MOST, _WIDEST = 112, 256, 12_000  # pixels: cell, cell, sheet


def write_sheet(grid: Grid, folder: Path) -> Path:
    """Write the sheet, completely or not at all. Raises OSError."""
    path = folder / SHEET
    with atomic_write(path) as temporary:
        draw_sheet(grid).save(temporary, format="PNG", optimize=True)
    return path


def draw_sheet(grid: Grid) -> Image.Image:
    """Compose the sheet: a row per prompt, a column per file and strength, gaps between files, losses at the bottom."""
    side = _side(grid)
    heights = [max((round(cell.prompt.height * side / cell.prompt.width) for cell in row), default=side) for row in grid.rows]
    lefts = _lefts(grid, side)
    head = _MARGIN + _TITLE + 5 * _GAP + 2 * (_TEXT + _GAP)
    foot = (2 * (_SMALL + _GAP) + _GAP if grid.losses else 0) + (_TEXT + 2 * _GAP if grid.verdict else 0)
    sheet = Image.new("RGB", (lefts[-1] + side + _MARGIN, head + sum(heights) + _GAP * len(heights) + foot + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), grid.title, _INK, _font(_TITLE))
    _write_heads(pen, grid, lefts, side, head)
    top = head
    for row, height in zip(grid.rows, heights, strict=True):
        _write_prompt(pen, f"“{row[0].prompt.prompt}”" if row else "", top, height)
        for cell, left in zip(row, lefts, strict=True):
            if cell.is_there():
                with Image.open(regular(cell.path)) as picture:
                    size = (side, round(cell.prompt.height * side / cell.prompt.width))
                    sheet.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), (left, top))
            else:
                pen.rectangle((left, top, left + side - 1, top + height - 1), outline=_LINE)
        top += height + _GAP
    _write_losses(pen, grid, lefts, side, top)
    return sheet


def _side(grid: Grid) -> int:
    """Return the cell width: that of its images, reduced if the sheet would become too wide."""
    widest = max((cell.prompt.width for row in grid.rows for cell in row), default=_MOST)
    room = (_WIDEST - 2 * _MARGIN - _LABELS) // max(1, len(grid.columns)) - _GAP
    return max(_LEAST, min(widest, _MOST, room))


def _lefts(grid: Grid, side: int) -> list[int]:
    lefts, x = [], _MARGIN + _LABELS
    for _, count in grid.files():
        for _ in range(count):
            lefts.append(x)
            x += side + _GAP
        x += _APART
    return lefts


def _write_heads(pen: ImageDraw.ImageDraw, grid: Grid, lefts: list[int], side: int, head: int) -> None:
    place = 0
    for label, count in grid.files():
        room = count * (side + _GAP) - _GAP
        pen.text((lefts[place], head - 2 * _GAP - _TEXT - _GAP), _cut(label, _TEXT, room), _MARK, _font(_TEXT), anchor="ls")
        place += count
    if grid.has_strengths():
        for column, left in zip(grid.columns, lefts, strict=True):
            text = f"{column.strength:g}" if column.choice is not None else "–"
            pen.text((left + side / 2, head - _GAP - 2), text, _PALE, _font(_TEXT), anchor="ms")


def _write_prompt(pen: ImageDraw.ImageDraw, text: str, top: int, height: int) -> None:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(_TEXT).getlength(longer) <= _LABELS - 2 * _GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    fitting = max(1, height // (_TEXT + 4))
    if len(lines) > fitting:
        lines = [*lines[: fitting - 1], f"{lines[fitting - 1]} …"]
    for number, line in enumerate(lines):
        pen.text((_MARGIN, top + number * (_TEXT + 4)), _cut(line, _TEXT, _LABELS - _GAP), _INK, _font(_TEXT))


def _write_losses(pen: ImageDraw.ImageDraw, grid: Grid, lefts: list[int], side: int, top: int) -> None:
    if grid.losses:
        pen.text((_MARGIN, top + _GAP), "validation loss", _PALE, _font(_SMALL))
        for standing, left in zip(grid.losses, lefts, strict=True):
            colour = _MARK if standing.is_best else _INK
            pen.text((left + side / 2, top + _GAP), f"{standing.loss:.5f}", colour, _font(_SMALL), anchor="mt")
            pen.text((left + side / 2, top + 2 * _GAP + _SMALL), _cut(loss_line(standing), _SMALL, side), _PALE, _font(_SMALL), anchor="mt")
        top += 2 * (_SMALL + _GAP) + 2 * _GAP
    if grid.verdict:
        pen.text((_MARGIN, top + _GAP), grid.verdict, _INK, _font(_TEXT))


def _cut(text: str, size: int, room: float) -> str:
    """Return the end of the text that fits, since it contains the epoch number."""
    if _font(size).getlength(text) <= room:
        return text
    while len(text) > 1 and _font(size).getlength(f"…{text}") > room:
        text = text[1:]
    return f"…{text}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
