"""The showings of a run as they come in, an update late with its loss: each process notes its own, and the main one has them all."""

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
    """`visits` are those of the whole run, on the main process and as far as the last `collect`."""

    def __init__(self, records: Sequence[ImageRecord] | None, processes: Processes) -> None:
        """`records` are the images of the run; None where a class brings batches itself, under names of its own."""
        self.records = records
        self._processes, self._fresh = processes, Visits()
        self.visits = Visits()

    def note(self, report: UpdateReport) -> None:
        """Take in the images of an update on this process."""
        for showing in report.showings():
            order = (showing.place << 32) + showing.row * self._processes.num_processes + self._processes.process_index
            self._fresh.add(report.step, report.epoch, self._name(showing), showing, order)

    def collect(self) -> None:
        """Bring the showings of all processes together; all of them call it at the same moment."""
        part = self._fresh.take()
        parts = gather_object([part]) if self._processes.num_processes > 1 else [part]
        if self._processes.is_main_process:
            self.visits.extend(parts)

    def go_back(self, step: int) -> None:
        """The run stands at update `step` again."""
        self._fresh.forget_after(step)
        self.visits.forget_after(step)

    def unseen(self) -> list[ImageName]:
        """Images of the run that were not shown yet, as far as they are known beforehand."""
        return [name_of(record) for record in self.records or () if record.key not in self.visits.images]

    def save(self, folder: Path) -> None:
        """Write what is collected into the folder of a state."""
        save_visits(self.visits, folder)

    def load(self, folder: Path) -> bool:
        """Go on from a state's showings; False where it has none. Raises UserError for those that are damaged."""
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
    """An image of a folder or of a metadata file."""
    return ImageName(record.key, str(record.path), record.dataset, record.subset.is_reg)
