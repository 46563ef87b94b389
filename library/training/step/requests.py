"""Requests to a running run, by signals and by files: a single process acts at once, several agree on the update after which they act."""

from __future__ import annotations

from library.training.step.pending import Figures
from library.training.step.request_files import RequestFiles
from library.training.step.stop_signals import StopRequest


class Requests:
    """`stopping` and `saving` are what all processes know.

    Each process sends what it has seen (`seen`) with the figures of an update, and all act on what any process has sent (`hear`).
    """

    def __init__(self, signals: StopRequest, files: RequestFiles | None, processes: int) -> None:
        """`files` None: requests by files are disabled."""
        self.signals, self.files = signals, files
        self.stopping = self.saving = False
        self._alone = processes == 1

    def seen(self) -> tuple[bool, bool]:
        """Look at the files; returns whether this process is asked to (stop, save)."""
        save = self.files is not None and self.files.look()
        self.saving = self.saving or (self._alone and save)
        return self._stop_is_seen(), save

    def must_stop(self) -> bool:
        """Return whether to make no more updates. A single process stops at once; several stop once all know of the request."""
        self.stopping = self.stopping or (self._alone and self._stop_is_seen())
        return self.stopping

    def hear(self, figures: Figures) -> None:
        """Take over the requests that any process has seen."""
        self.saving = self.saving or figures.save
        self.stopping = self.stopping or figures.stop

    def stop_is_wanted_now(self) -> bool:
        """Look again in the middle of long work, such as samples; returns whether this process is asked to stop."""
        if self.files is not None:
            self.files.look()
        return self._stop_is_seen()

    def forget(self, *requests: str) -> None:
        """Remove the files of requests (of all, if none is named) that are done or came too late."""
        if self.files is not None:
            self.files.forget(*requests)

    def stop_file_is_there(self) -> bool:
        """Return whether a file asks to stop; call this before the files are removed."""
        return self.files is not None and self.files.stop

    def forget_old(self) -> None:
        """Remove request files from before the run: they were for another run."""
        if self.files is not None:
            self.files.forget_old()

    def _stop_is_seen(self) -> bool:
        return self.signals.asked or self.stop_file_is_there()
