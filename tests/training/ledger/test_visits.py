"""Showings from any number of processes make one table, and a state brings it back as it was or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from library.training.ledger.saved_visits import FILE, load_visits, save_visits
from library.training.ledger.visits import MOST_CAPTIONS, OTHER, ImageName, Visits
from library.training.step.pending import Showing
from tests.messages import refused

NAMES = [ImageName(f"0/0/{number}.png", f"/photos/{number}.png", 0, number == 3) for number in range(4)]


def told(visits: Visits, step: int, order: int) -> None:
    number = (3 * step + order) % 4
    showing = Showing(number, "", f"caption {step % 3}", (64 + 8 * (order % 2), 64), 10 * step + order, 0.5 / step, 0, order)
    visits.add(step, step // 4, NAMES[number], showing, order)


def whole() -> Visits:
    """Six updates of four images, in one process."""
    fresh, visits = Visits(), Visits()
    for step in range(1, 7):
        for order in range(4):
            told(fresh, step, order)
    visits.extend([fresh.take()])
    return visits


def same(one: Visits, other: Visits) -> bool:
    tables = [(visits.names, visits.images, list(visits.captions), list(visits.sizes)) for visits in (one, other)]
    names = [name for name in one.rows().dtype.names or () if name != "order"]
    return tables[0] == tables[1] and all(np.array_equal(one.rows()[name], other.rows()[name]) for name in names)


@pytest.mark.parametrize("collected_after", [(6,), (2, 6), (1, 2, 3, 4, 5, 6)])
def test_two_processes_collected_at_any_time_make_the_table_of_one(collected_after: tuple[int, ...]) -> None:
    processes, visits = [Visits(), Visits()], Visits()
    for step in range(1, 7):
        for order in (2, 0, 3, 1):
            told(processes[order % 2], step, order)
        if step in collected_after:
            visits.extend([process.take() for process in processes])
    assert same(visits, whole()) and len(visits.rows()) == 24
    assert [one.key for one in visits.names] == ["0/0/3.png", "0/0/0.png", "0/0/1.png", "0/0/2.png"]  # as they first came


def test_of_many_captions_the_first_are_kept_and_the_rest_is_counted() -> None:
    visits, fresh = Visits(), Visits()
    for step in range(1, 30):
        fresh.add(step, 0, NAMES[0], Showing(0, "", f"text {step}", (64, 64), 0, 1.0, 0, 0), 0)
        if step % 10 == 0:
            visits.extend([fresh.take()])
    visits.extend([fresh.take()])
    assert list(visits.captions) == [(0, f"text {step}") for step in range(1, MOST_CAPTIONS + 1)]
    assert (visits.rows()["caption"] == OTHER).sum() == 29 - MOST_CAPTIONS


def test_going_back_forgets_what_came_later() -> None:
    visits = whole()
    visits.forget_after(4)
    assert visits.rows()["step"].max() == 4 and len(visits.rows()) == 16


def test_a_state_brings_the_table_back_and_it_goes_on_as_it_would_have(tmp_path: Path) -> None:
    fresh, visits = Visits(), Visits()
    for step in range(1, 7):
        for order in range(4):
            told(fresh, step, order)
        if step == 3:
            visits.extend([fresh.take()])
            save_visits(visits, tmp_path)
            loaded = load_visits(tmp_path)
            assert loaded is not None and same(loaded, visits)
            visits = loaded
    visits.extend([fresh.take()])
    assert same(visits, whole())


def test_a_state_without_showings_has_none(tmp_path: Path) -> None:
    assert load_visits(tmp_path) is None


def test_names_that_are_no_unicode_come_back(tmp_path: Path) -> None:
    visits = Visits()
    name = ImageName("0/0/\udcff.png", "/photos/\udcff.png", 0, False)
    visits.add(1, 0, name, Showing(0, "", "ü \udcff", (8, 8), 3, 1.0, 0, 0), 0)
    save_visits(visits, tmp_path)
    loaded = load_visits(tmp_path)
    assert loaded is not None and same(loaded, visits)


def spoilt(columns: dict[str, torch.Tensor], what: str) -> dict[str, torch.Tensor]:
    tables = json.loads(columns["tables"].numpy().tobytes())
    match what:
        case "a column is missing":
            columns.pop("epoch")
        case "a column is short":
            columns["epoch"] = columns["epoch"][:-1].clone()
        case "another kind of number":
            columns["loss"] = columns["loss"].double()
        case "an image that is none":
            columns["image"][0] = 99
        case "a caption that is none":
            columns["caption"][0] = -2
        case "a caption of no image":
            tables["captions"][0][0] = 99
        case "an image twice":
            tables["images"][1] = tables["images"][0]
        case "a table is missing":
            tables.pop("sizes")
        case "tables are a list":
            tables = [tables]
        case "an image without a path":
            tables["images"][0] = ["key"]
    if what == "tables are no JSON":
        columns["tables"] = columns["tables"][:-3].clone()
    else:
        columns["tables"] = torch.from_numpy(np.frombuffer(json.dumps(tables).encode(), np.uint8).copy())
    return columns


@pytest.mark.parametrize(
    "what",
    [
        "a column is missing", "a column is short", "another kind of number", "an image that is none", "a caption that is none",
        "a caption of no image", "an image twice", "a table is missing", "tables are a list", "an image without a path",
        "tables are no JSON",
    ],
)  # fmt: skip
def test_showings_that_lie_are_refused_in_a_line(what: str, tmp_path: Path) -> None:
    save_visits(whole(), tmp_path)
    columns = {name: tensor.clone() for name, tensor in load_file(tmp_path / FILE).items()}
    save_file(spoilt(columns, what), tmp_path / FILE)
    with refused("STATE-002", f"--resume {tmp_path}", FILE, "older state"):
        load_visits(tmp_path)
