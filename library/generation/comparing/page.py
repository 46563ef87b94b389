"""The page of a comparison: one HTML file that contains all images, needs no server and can be shared."""

from __future__ import annotations

import base64
import html
import io
import time
from pathlib import Path

from PIL import Image

from library.files import NOT_UNICODE, atomic_write
from library.generation.comparing.cells import Cell, Column
from library.generation.comparing.grid import Grid, loss_line, name_of
from library.generation.comparing.page_parts import PAGE_TEXT, SCRIPT, STYLE
from library.paths.opening import read_bytes, regular
from library.words import counted

PAGE = "index.html"
_AS_IT_IS = 1 << 17  # bytes of a PNG that goes into the page unchanged; larger ones become WebP
_QUALITY = 92


def write_page(grid: Grid, folder: Path, running: bool) -> Path:
    """Write the page, completely or not at all; with `running` it says that more images follow. Raises OSError."""
    path = folder / PAGE
    with atomic_write(path) as temporary:
        temporary.write_text(page_text(grid, running), encoding="utf-8", errors=NOT_UNICODE)
    return path


def page_text(grid: Grid, running: bool) -> str:
    """Return the whole page."""
    missing = sum(not cell.is_there() for row in grid.rows for cell in row)
    count = sum(len(row) for row in grid.rows) - missing
    size = f"{counted(len(grid.rows), 'prompt')} × {counted(len(grid.columns), 'column')}"
    summary = f"{counted(count, 'image')}, {size} · {time.strftime('%Y-%m-%d %H:%M')}"
    if missing:
        summary += f" · {missing} still to be generated" if running else f" · {missing} missing: run the same command again"
    body = "".join(_row(grid, number) for number in range(len(grid.rows)))
    return PAGE_TEXT.format(
        title=html.escape(grid.title),
        summary=html.escape(summary),
        verdict=f"<p class=verdict>{html.escape(grid.verdict)}</p>" if grid.verdict else "",
        heads=_heads(grid),
        body=body,
        foot=_foot(grid),
        style=STYLE,
        script=SCRIPT,
    )


def _heads(grid: Grid) -> str:
    files = "".join(
        f'<th scope=colgroup colspan={count} class=file title="{_quoted(name)}">{_quoted(name)}</th>' for name, count in grid.files()
    )
    rows = f"<tr><td></td>{files}</tr>"
    if grid.has_strengths():
        strengths = (f"{column.strength:g}" if column.choice is not None else "–" for column in grid.columns)
        rows += "<tr><td></td>" + "".join(f"<th scope=col>{strength}</th>" for strength in strengths) + "</tr>"
    return rows


def _row(grid: Grid, number: int) -> str:
    cells = grid.rows[number]
    prompt, seed = cells[0].prompt, cells[0].seed
    negative = f"<p class=negative>{html.escape(prompt.negative)}</p>" if prompt.negative else ""
    head = (
        f"<div class=prompt tabindex=0><p>{html.escape(prompt.prompt) or '(empty prompt)'}</p>{negative}<p class=seed>seed {seed}</p></div>"
    )
    shown = "".join(_cell(grid, cell, column) for cell, column in zip(cells, grid.columns, strict=True))
    return f"<tr><th scope=row>{head}</th>{shown}</tr>\n"


def _cell(grid: Grid, cell: Cell, column: Column) -> str:
    if not cell.is_there():
        return "<td class=none>–</td>"
    name = name_of(column, grid.has_strengths())
    text = html.escape(f"{name} — {cell.prompt.prompt}", quote=True)
    size = f"width={cell.prompt.width} height={cell.prompt.height}"
    return f'<td><button data-text="{text}"><img {size} src="{_embedded(cell.path)}" alt="{text}" title="{_quoted(name)}"></button></td>'


def _foot(grid: Grid) -> str:
    if not grid.losses:
        return ""
    most = max((standing.behind for standing in grid.losses), default=0.0) or 1.0
    cells = []
    for standing in grid.losses:
        kind = "best" if standing.is_best else "apart" if standing.is_apart else "close"
        bar = f"<span class=bar style='width:{100 * standing.behind / most:.0f}%'></span>"
        cells.append(f"<td class={kind}><b>{standing.loss:.5f}</b><span>{html.escape(loss_line(standing))}</span>{bar}</td>")
    return f"<tfoot><tr><th scope=row>validation loss</th>{''.join(cells)}</tr></tfoot>"


def _embedded(path: Path) -> str:
    """Return the image as a data URL."""
    content, kind = read_bytes(path), "png"
    if len(content) > _AS_IT_IS:
        packed = io.BytesIO()
        with Image.open(regular(path)) as image:
            image.save(packed, format="WEBP", quality=_QUALITY)
        content, kind = packed.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)
