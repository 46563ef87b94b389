"""What people ask of a running run, by signals and by files: one process obeys at once, several agree on the update after which they do."""

from __future__ import annotations

from library.training.step.pending import Figures
from library.training.step.request_files import RequestFiles
from library.training.step.stop_signals import StopRequest


class Requests:
    """`stopping` and `saving` are what all processes know alike. Each sends what it alone has seen (`seen`) along with the figures of an
    update, and all take over what the figures of any say (`hear`)."""

    def __init__(self, signals: StopRequest, files: RequestFiles | None, processes: int) -> None:
        """`files` None: nobody can ask by files."""
        self.signals, self.files = signals, files
        self.stopping = self.saving = False
        self._alone = processes == 1

    def seen(self) -> tuple[bool, bool]:
        """Look at the files: whether this process is asked to (stop, save)."""
        save = self.files is not None and self.files.look()
        self.saving = self.saving or (self._alone and save)
        return self._stop_is_seen(), save

    def must_stop(self) -> bool:
        """Whether no further update is made. A process that is alone obeys at once; of several all have heard of it alike."""
        self.stopping = self.stopping or (self._alone and self._stop_is_seen())
        return self.stopping

    def hear(self, figures: Figures) -> None:
        """Take over what any process has seen."""
        self.saving = self.saving or figures.save
        self.stopping = self.stopping or figures.stop

    def stop_is_wanted_now(self) -> bool:
        """Look again in the middle of long work, such as samples: whether this process is asked to stop."""
        if self.files is not None:
            self.files.look()
        return self._stop_is_seen()

    def forget(self, *requests: str) -> None:
        """Remove the files of requests (of all, when none is named) that were obeyed or came too late."""
        if self.files is not None:
            self.files.forget(*requests)

    def stop_file_is_there(self) -> bool:
        """Whether a file asks to stop; asked before the files are removed."""
        return self.files is not None and self.files.stop

    def forget_old(self) -> None:
        """Remove files that are there before the run starts: they were meant for another one."""
        if self.files is not None:
            self.files.forget_old()

    def _stop_is_seen(self) -> bool:
        return self.signals.asked or self.stop_file_is_there()
