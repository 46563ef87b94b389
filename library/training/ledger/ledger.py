"""Records the showings of a run, whose losses arrive an update late: each process notes its own, the main process gathers all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import gather_object

from library.data.scan.records import ImageRecord
from library.training.ledger.saved_visits import load_visits, save_visits
from library.training.ledger.visits import ImageName, Visits
from library.training.processes import Processes
from library.training.step.loop_events import UpdateReport
from library.training.step.pending import Showing


class ImageLedger:
    """`visits` are the showings of the whole run up to the last `collect`, on the main process."""

    def __init__(self, records: Sequence[ImageRecord] | None, processes: Processes) -> None:
        """`records` are the images of the run; None where a dataset class brings batches under its own names."""
        self.records = records
        self._processes, self._fresh = processes, Visits()
        self.visits = Visits()

    def note(self, report: UpdateReport) -> None:
        """Record the images of an update on this process."""
        for showing in report.showings():
            order = (showing.place << 32) + showing.row * self._processes.num_processes + self._processes.process_index
            self._fresh.add(report.step, report.epoch, self._name(showing), showing, order)

    def collect(self) -> None:
        """Gather the showings of all processes on the main process; all processes must call this together."""
        part = self._fresh.take()
        parts = gather_object([part]) if self._processes.num_processes > 1 else [part]
        if self._processes.is_main_process:
            self.visits.extend(parts)

    def go_back(self, step: int) -> None:
        """Forget all showings after update `step`, to which the run has returned."""
        self._fresh.forget_after(step)
        self.visits.forget_after(step)

    def unseen(self) -> list[ImageName]:
        """Images of the run that were not shown yet, among those known in advance."""
        return [name_of(record) for record in self.records or () if record.key not in self.visits.images]

    def save(self, folder: Path) -> None:
        """Write the collected showings into the folder of a state."""
        save_visits(self.visits, folder)

    def load(self, folder: Path) -> bool:
        """Restore the showings of a state; return False if it contains none. Raises UserError for damaged ones."""
        visits = load_visits(folder)
        if visits is None:
            return False
        visits.rename(map(name_of, self.records or ()))
        if self._processes.is_main_process:
            self.visits = visits
        return True

    def _name(self, showing: Showing) -> ImageName:
        if self.records is None:
            return ImageName(showing.path, showing.path, 0, False)
        return name_of(self.records[showing.record])


def name_of(record: ImageRecord) -> ImageName:
    """The ledger's name for an image of a folder or of a metadata file."""
    return ImageName(record.key, str(record.path), record.dataset, record.subset.is_reg)
