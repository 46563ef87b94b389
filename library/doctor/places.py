"""Recognize sync folders and network drives, where files may be slow, locked or not downloaded yet."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath

MOUNTS = Path("/proc/mounts")
_CLOUDS = (
    (re.compile(r"onedrive( - .+)?"), "OneDrive"),
    (re.compile(r"dropbox( \(.+\))?"), "Dropbox"),
    (re.compile(r"icloud ?drive|com~apple~clouddocs|mobile documents"), "iCloud"),
    (re.compile(r"google ?drive|my drive|googledrive-.+"), "Google Drive"),
    (re.compile(r"cloudstorage"), "a cloud drive"),
)
_VARIABLES = {"OneDrive": "OneDrive", "OneDriveConsumer": "OneDrive", "OneDriveCommercial": "OneDrive"}
_NETWORKS = frozenset("nfs nfs4 cifs smb3 smbfs afs ceph glusterfs lustre beegfs 9p fuse.sshfs fuse.rclone fuse.s3fs fuse.gcsfuse".split())
_REMOTE_DRIVE = 4  # DRIVE_REMOTE of Windows' GetDriveTypeW
_UNC = re.compile(r"^(?:\\\\|//)(?:\?\\UNC\\)?[^\\/?.][^\\/]*[\\/]", re.IGNORECASE)


def cloud_of(path: PurePath, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the sync program whose folder contains the path, by the folder's name or the program's variables."""
    for part in path.parts:
        for name, cloud in _CLOUDS:
            if name.fullmatch(part.lower()):
                return cloud
    for variable, cloud in _VARIABLES.items():
        folder = (os.environ if environment is None else environment).get(variable)
        if folder and path.is_relative_to(type(path)(folder)):
            return cloud
    return None


def network_of(path: Path, mounts: str | None = None) -> str | None:
    """Return how a path is on a network: a share by name, a mapped drive, or the kind of its mount; None if it is local.

    `mounts` is the text of /proc/mounts, read here if None.
    """
    if _UNC.match(str(path)):
        return "a network share"
    if sys.platform == "win32":
        return "a network drive" if path.drive and ctypes.windll.kernel32.GetDriveTypeW(path.drive + "\\") == _REMOTE_DRIVE else None
    kind = _mount_kind(path, _read_mounts() if mounts is None else mounts)
    return f"a network folder ({kind})" if kind in _NETWORKS else None


def _read_mounts() -> str:
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _mount_kind(path: Path, mounts: str) -> str:
    """Return the file system of the innermost mount around a path; of two mounts at one place, the later."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[1])
        if path.is_relative_to(point) and len(Path(point).parts) >= best:
            best, kind = len(Path(point).parts), words[2]
    return kind
