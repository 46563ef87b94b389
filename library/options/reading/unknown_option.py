"""Which scripts have an option: what to tell somebody who gave it to a script that has not."""

from __future__ import annotations

from collections.abc import Iterable

from library.options.declare import options_of
from library.options.suggest import closest

# keys of a dataset config that are no options, and the option that says the same
_DATASET_KEYS = {
    "batch_size": "train_batch_size",
    "image_dir": "train_data_dir",
    "metadata_file": "in_json",
    **dict.fromkeys(("num_repeats", "class_tokens", "is_reg")),
}


def remedy(name: str, known: Iterable[str], dashes: str = "", near_first: bool = False) -> str:
    """What ends the line about an unknown option: the scripts that have it, the nearest `known` one, or where all are listed.

    `dashes` go before the name of an option: those of the command line. `near_first` prefers the nearest name to other scripts that
    have this very one, as tools do, whose names are often those of a script without its beginning.
    """
    from library.options.groups.scripts import SCRIPTS

    known = list(known)
    if near_first and (near := closest(name, known)):
        return f"did you mean {dashes}{near}?"
    scripts = [spec.name for spec in SCRIPTS if any(name in option.names for option in options_of(spec))]
    if scripts and name not in known:  # a known one was written with other dashes
        return f"it is one of {' and '.join(filter(None, [', '.join(scripts[:-1]), scripts[-1]]))} only; leave it out here"
    if name in _DATASET_KEYS and not near_first:
        flag = _DATASET_KEYS[name]
        instead = f"here it is {dashes}{flag}" if flag else "without one the names of folders say it, such as '10_shs dog'"
        return f"it is a key of a dataset config (--dataset_config); {instead}"
    near = closest(name, known)
    return f"did you mean {dashes}{near}?" if near else "--help lists all options"
