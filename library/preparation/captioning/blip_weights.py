"""Resolves --caption_weights to a BLIP model, before torch is imported."""

from __future__ import annotations

from pathlib import Path

from library.console import log
from library.errors import UserError, coded
from library.options.suggest import missing_path
from library.options.tool_groups.preparation import BLIP
from library.paths.look import is_file, is_folder

_BASE = "Salesforce/blip-image-captioning-base"
_ENDINGS = (".pth", ".pt", ".bin", ".safetensors")


def weights_named(name: str) -> str:
    """The folder or Hub name to load; URLs of BLIP's original .pth files map to the same weights on the Hub.

    Raises UserError for a .pth file, which only BLIP's own code can read, and for a missing folder.
    """
    if name.startswith(("http://", "https://")):
        return _of_address(name)
    path = Path(name)
    if is_folder(path):
        return name
    asked = f"use a folder in the Hugging Face format, or a name on the Hugging Face Hub such as {BLIP}"
    if is_file(path):
        raise UserError(coded("TOOL-003", f"--caption_weights: {name} is a file; {asked}"))
    if path.suffix in _ENDINGS or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") != 1:
        raise UserError(coded("PATH-001", f"--caption_weights: {name}: {missing_path(path, folder=True)}; {asked}"))
    return name


def _of_address(name: str) -> str:
    if "blip" not in name.lower() or not name.endswith(".pth"):
        raise UserError(
            coded("TOOL-003", f"--caption_weights: {name} is a URL; use a folder, or a name on the Hugging Face Hub such as {BLIP}")
        )
    same = _BASE if "base" in name.rsplit("/", 1)[-1] else BLIP
    log.info("--caption_weights: %s is in BLIP's own format; the same model is loaded from the Hugging Face Hub, as %s", name, same)
    return same
