"""Reads optimizers and schedules saved by `torch.save`, without executing anything in the file."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

from library.containers.archives import DAMAGED
from library.containers.pickles import check_harmless, contains_code

_NAMED = re.compile(r"GLOBAL ([\w.]+)")  # the global that torch refuses to call
_OF_CODE = ("Unsupported", "unsupported", "unrecognized")


def read_plain(path: Path, mapped: bool = False) -> object:
    """Tensors, numbers, texts and tables of them; with `mapped`, tensors stay on disk until they are used.

    Raises ValueError, for a message that names the file first, if the file is damaged, and its subclass ContainsCode if it contains code.
    torch's own advice for such files is not followed.
    """
    import torch

    try:
        check_harmless(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as fault:
        refused = _NAMED.search(str(fault))
        if refused is None and not any(sign in str(fault) for sign in _OF_CODE):
            raise ValueError(DAMAGED) from fault
        raise contains_code(refused[1] if refused else "") from fault
    except ValueError:
        raise
    except Exception as fault:  # zip and torch raise various exceptions, and a damaged pickle nearly any
        raise ValueError(DAMAGED) from fault
