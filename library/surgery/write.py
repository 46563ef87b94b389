"""Write a tool's LoRA to its file, with a receipt of the errors from rounding and rank reduction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from library.console import log
from library.lora.files import ModuleWeights, write_weights
from library.surgery.combine import Combined, sized_metadata
from library.surgery.own_metadata import family_of_modules, own_metadata
from library.surgery.receipt import Entry, hand_over, rounded
from library.words import counted

Module = TypeVar("Module", bound=Combined)


def _no_note(combined: Combined) -> str:
    return ""


def write_lora(
    modules: Iterable[Module],
    save_to: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str] | None,
    what: str,
    verbose: bool,
    max_error: float | None,
    note: Callable[[Module], str] = _no_note,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Round the modules to `dtype`, compare each with its target, print the receipt (`what` describes its error) and write the file.

    alpha stays float32: it is one number, and bf16 would change the strength of the whole module. `metadata` None writes none. Tensors of
    `extra` are written unchanged.
    """
    tensors: dict[str, Tensor] = {}
    saved_modules: dict[str, ModuleWeights] = {}
    entries = []
    for combined in modules:
        (down, lost_down), (up, lost_up) = rounded(combined.module.down, dtype), rounded(combined.module.up, dtype)
        saved = ModuleWeights(down=down, up=up, alpha=float(torch.tensor(combined.module.alpha)))
        saved_modules[combined.key] = saved
        error, norm = combined.compared(saved)
        entries.append(Entry(combined.key, error, norm, lost_down + lost_up, note(combined)))
        tensors |= {f"{combined.key}.lora_down.weight": down, f"{combined.key}.lora_up.weight": up}
        tensors[f"{combined.key}.alpha"] = torch.tensor(saved.alpha)
    hand_over(entries, what, verbose, max_error)
    save_to.parent.mkdir(parents=True, exist_ok=True)
    write_weights(save_to, {**tensors, **(extra or {})}, None if metadata is None else _metadata(metadata, saved_modules, save_to.stem))
    log.info(f"saved {save_to}: {counted(len(saved_modules), 'module')}")


def _metadata(metadata: Mapping[str, str], modules: Mapping[str, ModuleWeights], name: str) -> dict[str, str]:
    return own_metadata(sized_metadata(metadata, modules), name, family_of_modules(modules))
