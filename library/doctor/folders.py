"""Check the folders and files that a command uses: permissions, free space, and location."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from library.doctor.findings import Finding, fault, named, note, ok
from library.doctor.places import cloud_of, network_of
from library.paths.look import exists, is_file, is_folder, look
from library.paths.opening import open_file
from library.words import counted, in_words, verb

_PROBE = 1 << 20  # bytes written to test that writing works
_TOO_LITTLE = 200 << 20  # bytes; too little for a single save
_TIGHT = 5 << 30  # bytes; too little for more than a few saves of a whole model
_LOOKED_AT = 50  # number of files and folders checked in a folder that is read
_IN_THE_CLOUD = 0x1000 | 0x40000 | 0x400000  # Windows' attributes OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS
_RIGHTS = "change its permissions, or choose another place; on Windows allow Python in 'Controlled folder access'"


@dataclass(frozen=True)
class Place:
    """A file or folder by the option that names it; `is_file`: its folder is the one to write to."""

    option: str
    path: Path
    written: bool
    is_file: bool = False
    may_be_missing: bool = False


def judge_place(place: Place) -> Iterator[Finding]:
    """Check permissions and space first, then whether it is on a sync folder or network drive."""
    private = (str(place.path), str(place.path.absolute()), str(place.path.absolute().parent))
    try:
        yield from _written(place, private) if place.written else _read(place, private)
        yield from _where(place, private)
    except (OSError, RuntimeError) as reason:  # RuntimeError: circular links
        yield fault(f"{place.option} {place.path} cannot be read ({named(reason)})", _RIGHTS, *private)


def _written(place: Place, private: tuple[str, ...]) -> Iterator[Finding]:
    folder = (place.path.parent if place.is_file else place.path).absolute()
    standing = next((part for part in (folder, *folder.parents) if exists(part)), None)
    what = f"{place.option} {place.path}"
    if standing is None:
        yield fault(f"{what}: the drive does not exist", "use a folder that can be created", *private)
        return
    private = (*private, str(standing))
    if not is_folder(standing):
        yield fault(f"{what}: {standing} is a file, not a folder", "choose another folder", *private)
        return
    free = shutil.disk_usage(standing).free
    reason = _why_not_writable(standing)
    if reason is not None and reason.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        yield fault(f"{what}: no permission to write in {standing} ({reason.strerror})", _RIGHTS, *private)
    elif reason is not None or free < _TOO_LITTLE:
        yield fault(f"{what}: the disk is full, {in_words(free)} free", "free some space, or choose a folder on another disk", *private)
    elif free < _TIGHT:
        yield note(f"{what}: only {in_words(free)} free", "the plan of a run shows how much space its files need", *private)
    else:
        yield ok(f"{what}: is writable, {in_words(free)} free", *private)


def _why_not_writable(folder: Path) -> OSError | None:
    """Write a file there and remove it: what a system says about permissions is not always true."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"\0" * _PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        return reason
    return None


def _read(place: Place, private: tuple[str, ...]) -> Iterator[Finding]:
    what = f"{place.option} {place.path}"
    if seen := look(place.path).fault:
        reason, _, remedy = seen.partition("; ")
        yield fault(f"{what}: {reason}", remedy, *private)
        return
    if not exists(place.path):
        if not place.may_be_missing:
            yield fault(f"{what} does not exist", "correct the path, or connect the drive", *private)
        return
    closed, distant = [], 0
    paths = [place.path]
    if is_folder(place.path):
        try:
            with os.scandir(place.path) as entries:
                paths = [Path(entry.path) for entry in itertools.islice(entries, _LOOKED_AT)]
        except PermissionError as reason:
            yield fault(f"{what}: no permission to read it ({reason.strerror})", _RIGHTS, *private)
            return
    for path in paths:
        if getattr(path.lstat(), "st_file_attributes", 0) & _IN_THE_CLOUD:
            distant += 1
        elif not _opens(path):
            closed.append(path.name)
    if closed:
        yield fault(f"{what}: no permission to read {len(closed)} of {len(paths)}, such as {closed[0]}", _RIGHTS, *private, *closed)
    elif distant:
        remedy = "choose 'Always keep on this device' in Explorer, or copy them elsewhere"
        yield note(f"{what}: {distant} of {counted(len(paths), 'file')} {verb(distant, 'is', 'are')} in the cloud only", remedy, *private)
    else:
        yield ok(f"{what}: is readable", *private)


def _opens(path: Path) -> bool:
    try:
        if is_folder(path):
            os.scandir(path).close()
        elif is_file(path):
            with open_file(path) as file:
                file.read(1)
    except PermissionError:
        return False
    return True


def _where(place: Place, private: tuple[str, ...]) -> Iterator[Finding]:
    path = place.path.absolute()
    resolved = path.resolve()
    cloud = cloud_of(path) or cloud_of(resolved)
    network = network_of(path) or network_of(resolved)
    private = (*private, str(resolved))
    if cloud is not None:
        remedy = "choose a folder outside it, or pause the sync while training: it locks and moves files"
        yield note(f"{place.option} {place.path}: is synced by {cloud}", remedy, *private)
    if network is not None:
        remedy = "choose a folder on a disk of this machine"
        yield note(f"{place.option} {place.path}: is {network}, which is slow and can disconnect", remedy, *private)
