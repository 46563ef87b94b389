"""What is in the file and on the page: every image, in its order, with what was shown of it; and very many images are too many."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.files import atomic_write
from library.training.ledger import ledger_files
from library.training.ledger.ledger import ImageLedger
from library.training.ledger.ledger_files import LedgerFiles, as_line
from library.training.ledger.ledger_page import MOST_OF_AN_ORDER, Thumbnails, as_page, chosen
from library.training.ledger.standings import standings
from library.training.ledger.visits import ImageName, Visits
from library.training.step.pending import Showing
from tests.messages import message

COUNT, TIMES, HARD, CLASSES = 12, 10, 4, (10, 11)


def visits(count: int = COUNT, folder: str = "/photos") -> Visits:
    """Image `HARD` has twice the loss of the others; the last two are class images, a hundred times as far off as all."""
    rng, recorded = np.random.default_rng(0), Visits()
    for step in range(1, TIMES + 1):
        for number in range(count):
            timestep = int(rng.integers(0, 1000))
            loss = float(np.exp(rng.normal(-timestep / 300, 0.2))) * (2 if number == HARD else 100 if number in CLASSES else 1)
            name = ImageName(f"0/0/{number:04d}", f"{folder}/{number:02d} &.png", 0, number in CLASSES)
            recorded.add(step, step // 2, name, Showing(number, "", f"a <i>{step % 2}</i>", (64, 96), timestep, loss, 0, number), number)
    return recorded


def test_the_hard_one_is_first_class_images_are_last_and_unseen_ones_are_told() -> None:
    lines = [as_line(one) for one in standings(visits(), [ImageName("0/0/9999", "/photos/late.png", 0, False)])]
    assert len(lines) == COUNT + 1
    assert lines[0]["image"].startswith(f"/photos/{HARD:02d}") and lines[0]["hardest"] == 1
    assert lines[0]["hardness"]["low"] > 1.3 and lines[0]["hardness"]["value"] == pytest.approx(2, rel=0.25)
    assert [line["class_image"] for line in lines[-2:]] == [True, True] and [line["hardest"] for line in lines[-2:]] == [1, 2]
    assert all(line["hardness"]["value"] < 1.4 for line in lines[-2:])  # next to the other one, not next to what is trained
    unseen = next(line for line in lines if line["image"].endswith("late.png"))
    assert (unseen["times_seen"], unseen["hardness"], unseen["captions"]) == (0, None, [])
    assert sorted(line["most_learned"] for line in lines[: COUNT - 2]) == list(range(1, COUNT - 1))


def test_a_line_has_showings_sizes_captions_timesteps_and_epochs() -> None:
    line = as_line(standings(visits(), [])[0])
    assert line["times_seen"] == TIMES and line["sizes"] == {"64x96": TIMES}
    assert line["captions"] == [{"text": "a <i>1</i>", "times": 5}, {"text": "a <i>0</i>", "times": 5}]
    for parts, of in (("by_timestep", "timesteps"), ("by_epoch", "epochs")):
        assert sum(part["times"] for part in line[parts]) == TIMES
        assert all(one[of][1] + 1 == next_[of][0] for one, next_ in pairwise(line[parts]))
    assert line["by_epoch"][0]["epochs"][0] == 1 and line["by_epoch"][-1]["epochs"][1] == TIMES // 2 + 1


def test_losses_that_are_no_numbers_count_as_shown_and_say_nothing() -> None:
    recorded = Visits()
    for number, loss in enumerate((float("nan"), 0.0, float("inf"), 0.5)):
        recorded.add(1, 0, ImageName(str(number), f"{number}.png", 0, False), Showing(number, "", "", (8, 8), 3, loss, 0, 0), number)
    lines = [as_line(one) for one in standings(recorded, [])]
    assert [line["times_seen"] for line in lines] == [1] * 4
    assert [line["hardness"] is None for line in lines] == [False, True, True, True]
    assert lines[0]["image"] == "3.png"


def test_the_page_has_every_image_escaped_and_in_itself(tmp_path: Path) -> None:
    for number in range(COUNT - 1):
        Image.new("RGB", (600, 300), (20 * number, 90, 90)).save(tmp_path / f"{number:02d} &.png")
    ranked = standings(visits(folder=str(tmp_path)), [])
    page = as_page("my <run>", ranked, TIMES, Thumbnails())
    assert page.count("<figure ") == COUNT and page.count('src="data:image/jpeg;base64,') == COUNT - 1
    assert "&lt;run&gt;" in page and "<run>" not in page and "a &lt;i&gt;1&lt;/i&gt;" in page and "<i>1</i>" not in page
    assert page.count("can no longer be read") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "2 class images" in page and page.count('<span class="class-image">') == 2
    orders = re.findall(r'data-hardest="(\d+)" data-least="(\d+)" data-most="(\d+)" data-class="0"', page)
    assert {int(least) + int(most) for _, least, most in orders} == {COUNT - 1}


def test_of_very_many_images_the_page_has_those_that_come_first() -> None:
    ranked = standings(visits(600), [])
    shown = chosen(ranked)
    assert 2 * MOST_OF_AN_ORDER <= len(shown) <= 3 * MOST_OF_AN_ORDER + len(CLASSES)
    assert ranked[:MOST_OF_AN_ORDER] == shown[:MOST_OF_AN_ORDER]
    learned = sorted(one.most_learned or 0 for one in shown if not one.image.is_class)
    assert learned[:MOST_OF_AN_ORDER] == list(range(1, MOST_OF_AN_ORDER + 1)) and learned[-1] == 598 == learned[-MOST_OF_AN_ORDER] + 99


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path, heard, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ImageLedger(None, None)  # type: ignore[arg-type]  # no one uses it here
    ledger.visits = visits()
    files = LedgerFiles(ledger, tmp_path / "out", "cat")
    files.write()
    lines = (tmp_path / "out" / "cat.images.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == COUNT

    def full(path: Path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_files, "atomic_write", full)
    files.write()
    files.write()
    assert len(heard.warnings) == 1
    message(heard.warnings, "cat.images.jsonl", "No space left on device", "training continues")
    monkeypatch.setattr(ledger_files, "atomic_write", atomic_write)
    assert (tmp_path / "out" / "cat.images.jsonl").read_text(encoding="utf-8").splitlines() == lines
