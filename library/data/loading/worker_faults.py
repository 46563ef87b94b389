"""What goes wrong with loader workers, as lines for the user: one that dies, and batches for which shared memory has no space."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

from torch import Tensor
from torch.utils.data import get_worker_info

from library.data.loading.batch import Batch
from library.errors import Problem, UserError, coded, first_line

_OPTION = "--max_data_loader_n_workers"
_LARGER = "enlarge the paging file of Windows" if os.name == "nt" else "enlarge /dev/shm (in Docker: --shm-size 8g)"


def shared(batch: Batch) -> Batch:
    """The batch with its tensors in shared memory, if this is a loader worker. Raises UserError if they do not fit.

    torch moves them there itself, but in a thread whose errors do not arrive: the main process would wait for the batch forever.
    """
    worker = get_worker_info()
    if worker is None:
        return batch
    try:
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            if isinstance(value, Tensor) and value.device.type == "cpu" and value.untyped_storage().nbytes():
                value.untyped_storage().share_memory_()
    except RuntimeError as fault:
        raise UserError(_no_space(worker.num_workers, first_line(fault).rpartition(">: ")[2])) from fault
    return batch


@contextlib.contextmanager
def quiet_deaths() -> Iterator[None]:
    """Inside, torch may create loader workers; afterwards the death of one interrupts nothing and is found when its batch is missing.

    torch's handler of SIGCHLD raises an error wherever the main process is at that moment: in an update, or while it saves.
    """
    number = getattr(signal, "SIGCHLD", None)  # missing on Windows
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None:  # else it was not installed by Python, and cannot be restored
            signal.signal(number, before)


def death(fault: BaseException, workers: Sequence[BaseProcess], count: int) -> Problem | None:
    """The line for an error in loading if one of the `count` worker processes has died, else None."""
    code = next((worker.exitcode for worker in workers if worker.exitcode), 0)
    if not code and "DataLoader worker" not in str(fault):  # torch's own words
        return None
    name = _signal_name(-code) if code < 0 else f"exit code {code}"
    if name == "SIGBUS":
        return _no_space(count, name)
    if name == "SIGKILL":
        return coded(
            "DATA-024", f"{_OPTION}: the system killed a loader worker, most likely because memory ran out; use fewer (now {count}) or 0"
        )
    return coded("DATA-024", f"{_OPTION}: a loader worker ended unexpectedly ({name}); start again with 0 (now {count})")


def _no_space(count: int, reason: str) -> Problem:
    return coded(
        "DATA-029",
        f"{_OPTION}: shared memory has no space for the batches of the workers ({reason}); {_LARGER}, or use fewer (now {count}) or 0",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
