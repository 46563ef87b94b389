"""Writes the figures of a run to Weights & Biases, or to a local folder without an account; errors never stop the training."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from library.console import log, secret_free
from library.errors import first_line
from library.paths.shell_words import shell_word

HOST = "https://api.wandb.ai"
_OFFLINE = ("offline", "dryrun")


class WandbLog:
    """One run at wandb under `project`; its local files are in `<folder>/wandb`. `failed` counts what could not be written.

    Without a key the log is kept offline, for `wandb sync`: wandb itself would stop and ask for a key. The key is passed in memory and
    never written, and wandb does not record the command line, which may contain secrets.
    """

    def __init__(
        self, folder: Path, project: str, name: str | None, key: str | None, settings: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        self.folder = Path(folder) / "wandb"
        self.failed = 0
        self._run: Any = None
        mode = settings.get("mode") or os.environ.get("WANDB_MODE") or ("online" if key or _known_key() else "offline")
        self.offline = mode in _OFFLINE
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._run = _init(folder, key, {"project": project, "name": name, "mode": mode, "config": dict(config)} | dict(settings))
        except Exception as error:
            self._fail(error)
        if self._run is not None and self._run.offline:
            self.folder = Path(self._run.dir).parent

    def log(self, step: int, values: Mapping[str, float], epoch: int | None = None) -> None:
        """Write `values` at update `step`, with the epoch's number at the end of an epoch."""
        self._put(dict(values) if epoch is None else {**values, "epoch": epoch}, step)

    def images(self, step: int, files: Sequence[tuple[Path, str]]) -> None:
        """Show sample images, each with its prompt."""
        if self._run is None or not files:
            return
        try:
            import wandb

            shown = {f"sample_{place}": wandb.Image(str(path), caption=prompt) for place, (path, prompt) in enumerate(files)}
        except Exception as error:
            self._fail(error)
            return
        self._put(shown, step)

    def close(self) -> None:
        """Write what is still waiting and end the run."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            import wandb

            run.finish()
            wandb.teardown()  # wandb writes in a separate process, which may still be busy when `finish` returns
        except Exception as error:
            self._fail(error)

    def place(self) -> str:
        """Where the user finds the log."""
        if self.offline:
            return f"{self.folder} (kept offline; `wandb sync {shell_word(self.folder)}` uploads it)"
        return getattr(self._run, "url", None) or str(self.folder)

    def _put(self, values: Mapping[str, Any], step: int) -> None:
        if self._run is None:
            return
        try:
            self._run.log(values, step=step)
        except Exception as error:
            self._fail(error)

    def _fail(self, reason: Exception) -> None:
        self.failed += 1
        if self.failed == 1:
            line = secret_free(first_line(reason))
            log.warning(f"--log_with: the log at Weights & Biases cannot be written ({line}); training continues without it")


def _init(folder: Path, key: str | None, arguments: dict[str, Any]) -> Any:
    import wandb

    settings = wandb.Settings(silent=True, x_disable_meta=True, console="off", disable_git=True, save_code=False, disable_code=True)
    before = os.environ.get("WANDB_API_KEY")
    if key:
        os.environ["WANDB_API_KEY"] = key
    try:
        return wandb.init(dir=str(folder), settings=settings, **arguments)
    finally:
        if key:
            os.environ.pop("WANDB_API_KEY")
            os.environ.update({} if before is None else {"WANDB_API_KEY": before})


def _known_key() -> bool:
    """Whether wandb finds a key itself: in the environment, or where `wandb login` stores it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", HOST)).hostname or ""
    places = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for place in places:
        try:
            if netrc.netrc(str(place)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
