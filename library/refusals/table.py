"""All kinds of refusal by code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from library.refusals.areas import (
    data,
    files,
    hub,
    lora,
    model,
    options,
    packages,
    paths,
    saving,
    settings,
    states,
    tools,
    training,
)
from library.refusals.refusal import Refusal

# in the order of the page: from what is typed to what is written
AREAS = (
    options.AREA, settings.AREA, paths.AREA, data.AREA, model.AREA, files.AREA, lora.AREA, packages.AREA, states.AREA,
    saving.AREA, training.AREA, hub.AREA, tools.AREA,
)  # fmt: skip
REFUSALS: Mapping[str, Refusal] = MappingProxyType({refusal.code: refusal for area in AREAS for refusal in area.refusals})
