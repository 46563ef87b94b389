"""Files named `save` and `stop` in the output folder: requests to a running run, by anyone who can create a file there."""

from __future__ import annotations

from pathlib import Path

from library.console import is_main_process, log
from library.paths.look import is_file

_ENDINGS = ("", ".txt")  # file managers on Windows create text files, and hide their ending
_REQUESTS = ("save", "stop")


class RequestFiles:
    """`look()` is called once per update and sets `save` and `stop`. Only the main process looks; the loop informs the others."""

    def __init__(self, folder: Path) -> None:
        self._files = {request: [Path(folder) / f"{request}{ending}" for ending in _ENDINGS] for request in _REQUESTS}
        self._is_main = is_main_process()
        self._stuck: set[Path] = set()  # done, but the file could not be removed
        self.save = self.stop = False

    def look(self) -> bool:
        """Look again; returns whether a file `save` exists."""
        if self._is_main:
            self.save, self.stop = (any(map(self._is_request, self._files[request])) for request in _REQUESTS)
        return self.save

    def _is_request(self, path: Path) -> bool:
        if not is_file(path):  # a folder of that name is not a request
            self._stuck.discard(path)
            return False
        return path not in self._stuck

    def forget(self, *requests: str) -> list[str]:
        """Remove the files of these requests (of both, if none is named), which are done or came too late; returns their names."""
        removed = []
        for path in [path for request in requests or self._files for path in self._files[request]] if self._is_main else ():
            if not is_file(path):
                continue
            try:
                path.unlink()
                removed.append(path.name)
            except OSError as fault:  # otherwise the request would repeat after every update
                if path not in self._stuck:
                    log.warning(f"{path} cannot be removed ({fault.strerror}) and is ignored until it is removed")
                self._stuck.add(path)
        self.look()
        return removed

    def forget_old(self) -> None:
        """Remove request files from before the run: they were for another run."""
        for name in self.forget():
            log.warning(f"--output_dir: an old file {name} existed before this run and was removed; create it while the run is active")
