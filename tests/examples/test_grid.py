"""The before/after sheet shows every picture in its row and column, whole, and its words inside the sheet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from examples.grid import Row, draw_grid


def boxes(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of one colour."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_every_picture_stands_in_its_row_and_column():
    colours = [[(10 * row + 7, 20 * column + 5, 99) for column in range(3)] for row in range(2)]
    rows = [Row(f"prompt {place}", "a comment", [plain(colour) for colour in line]) for place, line in enumerate(colours)]
    sheet = draw_grid("title", [plain((1, 2, 200))], "shown", ["before", "epoch 1", "epoch 2"], rows, cell=100)
    found = [[boxes(sheet, colour) for colour in line] for line in colours]
    for line in found:
        assert len({top for _, top, _, _ in line}) == 1
        assert [left for left, *_ in line] == sorted(left for left, *_ in line)
    for one, other in zip(*found, strict=True):
        assert one[0] == other[0] and one[1] < other[1]
    for left, top, right, bottom in (box for line in found for box in line):
        assert (right - left, bottom - top) == (100, 100)
        assert right <= sheet.width and bottom <= sheet.height
    assert boxes(sheet, (1, 2, 200))[3] < found[0][0][1]


def test_a_wide_picture_is_shown_whole():
    row = Row("p", "", [plain((9, 9, 99), (60, 30))])
    left, top, right, bottom = boxes(draw_grid("t", [], "", ["before"], [row], cell=120), (9, 9, 99))
    assert (right - left, bottom - top) == (120, 60)


def test_long_words_stay_beside_the_pictures():
    words = "a rather long prompt that goes on and on about a tabby cat and its dreams"
    with_words, without = (draw_grid("t", [], "", ["before"], [Row(text, text, [plain((9, 9, 99))])], cell=128) for text in (words, ""))
    left, *_ = boxes(with_words, (9, 9, 99))
    right_part = [np.asarray(sheet)[:, left:] for sheet in (with_words, without)]
    assert np.array_equal(*right_part)
