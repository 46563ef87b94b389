"""What `torch.save` wrote of optimizers and schedules, read back without running anything in it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

from library.containers.archives import DAMAGED
from library.containers.pickles import check_harmless

_NAMED = re.compile(r"GLOBAL ([\w.]+)")  # what torch refuses to call
_OF_CODE = ("Unsupported", "unsupported", "unrecognized")


def read_plain(path: Path, mapped: bool = False) -> object:
    """Tensors, numbers, texts and tables of them; `mapped` leaves tensors on the disk until they are asked for.

    Raises ValueError, to be read behind the file's name: one that holds code is not read, whatever torch advises, nor is a damaged one.
    """
    import torch

    try:
        check_harmless(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as fault:
        found = _NAMED.search(str(fault))
        if found is None and not any(sign in str(fault) for sign in _OF_CODE):
            raise ValueError(DAMAGED) from fault
        raise ValueError(f"contains code{f' ({found[1]})' if found else ''} and was not read") from fault
    except ValueError:
        raise
    except Exception as fault:  # zip and torch each have their own, and a broken pickle can raise nearly anything
        raise ValueError(DAMAGED) from fault
