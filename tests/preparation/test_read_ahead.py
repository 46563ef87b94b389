"""Images are read while the model works on those before, in order, and a bad one stops nothing."""

import threading
import time
from pathlib import Path

import pytest

from library.errors import UserError, coded
from library.preparation.read_ahead import read_ahead
from tests.messages import message

PATHS = [Path(str(number)) for number in range(11)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_and_a_bad_file_is_told(workers: int) -> None:
    def load(path: Path) -> int:
        time.sleep(0.002 * (path.name in "036"))  # the first of a batch is the last to be ready
        if path.name == "4":
            raise ValueError("broken\nfile")
        return int(path.name)

    batches = list(read_ahead(PATHS, load, 3, workers))
    assert [len(batch) for batch in batches] == [3, 3, 3, 2]
    loaded = [one for batch in batches for one in batch]
    assert [one.path for one in loaded] == PATHS
    assert [one.value for one in loaded] == [None if number == 4 else number for number in range(11)]
    (fault,) = [one.fault for one in loaded if one.fault]
    message(fault, "damaged", "broken file")
    assert fault.code == "DATA-001"


def test_an_error_for_the_user_keeps_its_code_and_all_its_lines() -> None:
    def load(path: Path) -> int:
        raise UserError(coded("PATH-005", "cannot be written"), coded("PATH-008", "has a long name"))

    ((one,),) = read_ahead(PATHS[:1], load, 1, 1)
    assert one.fault is not None and one.fault.line == "cannot be written; has a long name [SD-PATH-005]"


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 4), (4, 2)])
def test_the_next_batch_is_read_while_the_caller_has_one_and_memory_stays_bounded(workers: int, batch_size: int) -> None:
    read = []
    more = threading.Event()

    def load(path: Path) -> Path:
        read.append(path)
        if len(read) >= 2 * batch_size:
            more.set()
        return path

    batches = read_ahead(PATHS, load, batch_size, workers)
    next(batches)
    assert more.wait(60), "the second batch is not read before it is asked for"
    time.sleep(0.05)
    assert len(read) <= batch_size * (2 + workers // batch_size)
    batches.close()
