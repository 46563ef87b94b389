"""Create a text to paste into a question: the findings, without names, paths and secrets."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from library.console import secret_free
from library.doctor.findings import Finding
from library.words import counted

_QUOTED_PATH = re.compile(r"""(["'])(?:[A-Za-z]:[\\/]|\\\\|/|~)[^"'\n]*\1""")
_PATH = re.compile(r"""(?:(?<![A-Za-z0-9])[A-Za-z]:[\\/]|(?<![\w>])\\\\[A-Za-z0-9?.]|(?<![\w./~<>-])/(?=[^\s/])|~[\\/])[^\s"'<>|;,()]*""")
_BELOW_OWN = re.compile(r"""(<home>|<current folder>|<temp>)[\\/][^\s"'<>|;,()]*""")
_BENEATH = re.compile(r"(nvidia-|triton|torch|pytorch|tokenizers|kernels|peft|lycoris|protobuf|packaging|pip$|setuptools$)", re.IGNORECASE)
_LONGER_THAN = 2  # characters; a value such as 1 or 0.5 identifies no one


@dataclass(frozen=True)
class Own:
    """What identifies the owner of this machine."""

    names: tuple[str, ...]
    folders: Mapping[str, str]  # folder -> its replacement in the report


def find_own() -> Own:
    """Collect the names of the user and the machine, and the folders that contain them."""
    names = {_or_nothing(getpass.getuser), _or_nothing(socket.gethostname), _or_nothing(platform.node), Path(_home()).name}
    names |= {os.environ.get(variable, "") for variable in ("USER", "USERNAME", "LOGNAME", "COMPUTERNAME", "HOSTNAME", "USERDOMAIN")}
    names |= {name.partition(".")[0] for name in names}
    folders = {
        _home(): "<home>", str(Path.cwd()): "<current folder>", sys.prefix: "<environment>", sys.base_prefix: "<python>",
        str(Path(__file__).parents[2]): "<suite>", tempfile.gettempdir(): "<temp>",
    }  # fmt: skip
    return Own(tuple(sorted((name for name in names if len(name) > 1), key=len, reverse=True)), folders)


def report(findings: Iterable[Finding], command: str | None, own: Own | None = None) -> str:
    """Return the whole text: system, command without its values, findings, versions of indirect dependencies."""
    own = find_own() if own is None else own
    all_findings = list(findings)
    lines = [
        "### Doctor's report",
        f"system: {platform.system()} {platform.release()}, {platform.machine()}, {counted(os.cpu_count() or 1, 'core')}",
        f"Python: {platform.python_version()} ({platform.python_implementation()})",
        *([f"command: {command}"] if command is not None else []),
        "",
        *(_private_free(finding).line() for finding in all_findings),
        "",
        f"installed: {', '.join(_packages())}",
    ]
    return "\n".join(scrubbed(line, own) for line in lines)


def scrubbed(text: str, own: Own) -> str:
    """Remove secrets, folders, other absolute paths and names from the text, in that order."""
    text = secret_free(text)
    for folder in sorted(own.folders, key=len, reverse=True):
        if len(folder) > 1:
            for spelled in {folder, folder.replace("\\", "/"), folder.replace("\\", "\\\\")}:
                text = re.sub(rf"{re.escape(spelled)}(?![\w-])", own.folders[folder], text, flags=re.IGNORECASE)
    text = _BELOW_OWN.sub(r"\1", text)
    text = _QUOTED_PATH.sub("<path>", text)
    text = _PATH.sub("<path>", text)
    for name in own.names:
        text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", "<name>", text, flags=re.IGNORECASE)
    return text


def _private_free(finding: Finding) -> Finding:
    """Return the finding without the values and paths of the command."""
    text, remedy = finding.text, finding.remedy
    for part in sorted(set(finding.private), key=len, reverse=True):
        if len(part) > _LONGER_THAN or "/" in part or "\\" in part:
            whole = re.compile(rf"(?<!\w){re.escape(part)}(?!\w)")
            text, remedy = whole.sub("<value>", text), whole.sub("<value>", remedy)
    return Finding(finding.level, text, remedy)


def _packages() -> list[str]:
    """The relevant indirect dependencies; a list of all packages would reveal the user's other work."""
    versions = set()
    for package in metadata.distributions():
        try:
            if _BENEATH.match(name := package.metadata["Name"]):
                versions.add(f"{name} {package.version}")
        except Exception:  # unreadable files
            continue
    return sorted(versions, key=str.lower)


def _or_nothing(ask: object) -> str:
    """Return the result of a function about this machine; empty if it fails."""
    try:
        return str(ask()) if callable(ask) else ""
    except (OSError, ImportError, KeyError):
        return ""


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:
        return ""
