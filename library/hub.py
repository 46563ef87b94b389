"""The Hugging Face Hub: uploads saves during training and downloads a state; a Hub error never ends training."""

from __future__ import annotations

import glob
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log, secret_free
from library.errors import UserError, coded
from library.paths.look import exists, is_folder
from library.words import counted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TYPES = ("model", "dataset", "space")
DELAYS = (10.0, 30.0)  # seconds before each retry of an upload; huggingface_hub itself retries several times in each
CONTACT_SECONDS = 30.0
_HOPELESS = frozenset({400, 401, 403, 404, 413, 422})  # status codes that a retry does not change


@dataclass(frozen=True)
class Repository:
    """Where uploads go: `folder` inside the repository `id` (owner/name), whose type is one of TYPES."""

    id: str
    type: str = "model"
    folder: str = ""
    private: bool = True

    def path_of(self, name: str) -> str:
        """Return the path of the file `name` inside the repository."""
        return f"{self.folder.strip('/')}/{name}".lstrip("/")

    def address(self) -> str:
        """Return the web page of the repository."""
        kind = "" if self.type == "model" else f"{self.type}s/"
        return f"{(os.environ.get('HF_ENDPOINT') or 'https://huggingface.co').rstrip('/')}/{kind}{self.id}"


class Uploads:
    """Uploads files and folders in turn, in a separate thread; `done` and `failed` count them.

    With `background`, training continues meanwhile; otherwise `upload` returns when the upload is over. A failed upload is retried after
    each of `delays`, unless the Hub's answer means that a retry cannot help. `token` None uses the token of `hf auth login`.
    """

    def __init__(
        self,
        repository: Repository,
        token: str | None = None,
        background: bool = False,
        delays: Sequence[float] = DELAYS,
        api: HfApi | None = None,
    ) -> None:
        self.repository, self.background = repository, background
        self.done = self.failed = 0
        self._token, self._delays, self._given_api = token, tuple(delays), api
        self._ready = False  # whether the repository is known to exist
        self._down = False  # the last upload failed after all retries, so the next one is not retried
        self._lost: list[Path] = []
        self._waiting: dict[Path, threading.Event] = {}
        self._jobs: queue.SimpleQueue[tuple[Path | None, threading.Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._thread.start()
        self._jobs.put((None, threading.Event()))  # check the repository at once, so that a wrong token is reported early

    def upload(self, path: Path) -> None:
        """Upload a file or a folder under its own name."""
        over = threading.Event()
        self._waiting[Path(path)] = over
        self._jobs.put((Path(path), over))
        if not self.background:
            over.wait()

    def release(self, path: Path) -> None:
        """Wait until no upload needs `path` any more; call it before deleting or rewriting `path`."""
        over = self._waiting.get(Path(path))
        if over is not None and not over.is_set():
            log.info(f"waiting for the upload of {Path(path).name}")
            over.wait()

    def close(self, wait: bool = True) -> None:
        """Wait for all uploads and retry failed ones once if their files still exist; `wait` False abandons them."""
        if not self._thread.is_alive() or not wait:
            return
        left = sum(not over.is_set() for over in self._waiting.values()) + len(self._lost)
        if left:
            log.info(f"waiting for {counted(left, 'upload')} to {self.repository.id}")
        self._jobs.put(None)
        self._thread.join()

    def places(self) -> list[str]:
        """Return where the uploads are and how many failed, for the end of a run."""
        lost = f", {self.failed} failed" if self.failed else ""
        return [f"uploads: {self.repository.address()} ({self.done} done{lost})"]

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            path, over = job
            try:
                self._try_all(path)
            finally:
                over.set()
        lost, self._lost = self._lost, []
        for path in lost:
            if exists(path):
                self.failed -= 1
                self._try_all(path)

    def _try_all(self, path: Path | None) -> None:
        """Try until it works or cannot work; `path` None checks the repository once."""
        reason, hopeless = "", False
        for delay in (0.0, *(() if self._down else self._delays)):
            time.sleep(delay)
            try:
                api = self._given_api or _api(self._token)
                if not self._ready:
                    self._make_sure(api)
                if path is not None:
                    self._put(api, path)
                    self.done += 1
                    self._down = False
                    log.info(f"uploaded {path.name} to {self.repository.id}")
                return
            except Exception as error:
                reason, hopeless = error_line(error), _is_hopeless(error)
                if path is None or hopeless:
                    break
        what = "the repository cannot be reached" if path is None else f"{path.name} could not be uploaded"
        log.warning(f"--huggingface_repo_id {self.repository.id}: {what} ({reason}); training continues")
        if path is not None:
            self.failed += 1
            self._down = True
            if not hopeless:
                self._lost.append(path)

    def _make_sure(self, api: HfApi) -> None:
        """Check that the repository exists, or create it."""
        repository = self.repository
        try:
            info = api.repo_info(repository.id, repo_type=repository.type, timeout=CONTACT_SECONDS)
        except Exception as error:
            if _status(error) != 404:
                raise
            extra = {"space_sdk": "static"} if repository.type == "space" else {}
            api.create_repo(repository.id, repo_type=repository.type, private=repository.private, exist_ok=True, **extra)
            log.info(f"created the {'private' if repository.private else 'public'} repository {repository.address()}")
        else:
            if repository.private and getattr(info, "private", None) is False:
                log.warning(f"--huggingface_repo_id {repository.id}: is already public; everyone can see uploads")
        self._ready = True

    def _put(self, api: HfApi, path: Path) -> None:
        target = {"repo_id": self.repository.id, "repo_type": self.repository.type, "path_in_repo": self.repository.path_of(path.name)}
        if is_folder(path):
            api.upload_folder(folder_path=str(path), commit_message=f"Upload {path.name}", **target)
        else:
            api.upload_file(path_or_fileobj=str(path), commit_message=f"Upload {path.name}", **target)


@dataclass(frozen=True)
class StateName:
    """A state on the Hub, as `--resume` names it."""

    repo_id: str
    path: str
    revision: str | None
    type: str


def state_name(text: str) -> StateName:
    """Parse `{owner}/{repo}/{path}`, `…:{revision}` or `…:{revision}:{type}`; raises UserError for another form."""
    place, *rest = text.strip().split(":")
    parts = [part for part in place.split("/") if part]
    kind = rest[1] if len(rest) > 1 and rest[1] else "model"
    if len(parts) < 3 or len(rest) > 2:
        raise UserError(
            coded(
                "HUB-001",
                f"--resume {text}: with --resume_from_huggingface, write owner/repository/path:revision:type, "
                "such as me/my-model/cat-000002-state:main:model",
            )
        )
    if kind not in TYPES:
        raise UserError(coded("HUB-001", f"--resume {text}: {kind} is not a repository type; use one of {', '.join(TYPES)}"))
    return StateName("/".join(parts[:2]), "/".join(parts[2:]), rest[0] if rest and rest[0] else None, kind)


def fetch_state(text: str, token: str | None = None, api: HfApi | None = None) -> Path:
    """Download the state that `--resume text` names into the Hub's cache and return its folder; raises UserError."""
    name = state_name(text)
    log.info(f"fetching the state {name.path} from {name.repo_id}")
    try:
        snapshot = (api or _api(token, quiet=False)).snapshot_download(
            name.repo_id, repo_type=name.type, revision=name.revision, allow_patterns=[f"{glob.escape(name.path)}/*"]
        )
    except Exception as error:
        raise UserError(coded("HUB-002", f"--resume {text}: cannot be fetched from the Hub ({error_line(error)})")) from error
    folder = Path(snapshot, *name.path.split("/"))
    if not is_folder(folder):
        raise UserError(coded("HUB-003", f"--resume {text}: {name.repo_id} has no folder {name.path} (revision {name.revision or 'main'})"))
    return folder


def error_line(error: BaseException) -> str:
    """Return a Hub error as one line without secrets."""
    lines = [line.strip() for line in secret_free(str(error)).splitlines() if line.strip()]
    status = _status(error)
    line = (lines[0] if lines else type(error).__name__)[:200]
    meant = {401: "; check --huggingface_token", 403: "; the token needs write permission"}.get(status or 0, "")
    return line + meant


def _api(token: str | None, quiet: bool = True) -> HfApi:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()  # they would write into the training's progress bar
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # errors are logged here, once and in one line
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=(token or "").strip() or None)


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_hopeless(error: BaseException) -> bool:
    from huggingface_hub import errors

    ours = (FileNotFoundError, errors.OfflineModeIsEnabled, errors.HFValidationError, errors.LocalTokenNotFoundError)
    return isinstance(error, ours) or _status(error) in _HOPELESS
