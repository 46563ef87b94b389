"""When a run validates, what it keeps of the best result, and when it has seen enough; known before torch is imported."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from library.data.batching.buckets import FilledData
from library.errors import UserError
from library.training.states.state import Standing

_NEED_IMAGES = ("validate_every_n_steps", "validate_every_n_epochs", "max_validation_steps", "save_best", "early_stop_patience")


@dataclass(frozen=True)
class ValidationPlan:
    """`every_n_steps` and `every_n_epochs` act side by side; `max_batches` counts batches over all processes."""

    seed: int = 0
    every_n_steps: int | None = None
    every_n_epochs: int | None = 1
    max_batches: int | None = None
    save_best: bool = False
    patience: int | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ValidationPlan:
        """What the options ask for, `values` by field name."""
        steps, epochs = values["validate_every_n_steps"], values["validate_every_n_epochs"]
        return cls(
            seed=values["validation_seed"] or 0,
            every_n_steps=steps,
            every_n_epochs=1 if steps is None and epochs is None else epochs,
            max_batches=values["max_validation_steps"],
            save_best=values["save_best"] or values["early_stop_patience"] is not None,
            patience=values["early_stop_patience"],
        )

    def images(self, data: FilledData) -> str:
        """A digest of what is measured: `Standing.images`."""
        lines = [f"{self.seed} {self.max_batches} {data.blueprint.datasets[0].options.batch_size if self.max_batches else 0}"]
        lines += [f"{record.key} {place.bucket} {record.caption}" for record, place in zip(data.records, data.placements, strict=True)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def due(self, step: int, epoch: int, at_epoch_end: bool) -> bool:
        """Whether to validate after `step` updates and `epoch` whole epochs."""
        if at_epoch_end:
            return self.every_n_epochs is not None and epoch % self.every_n_epochs == 0
        return self.every_n_steps is not None and step % self.every_n_steps == 0

    def enough(self, standing: Standing) -> bool:
        """Whether the training has to end early."""
        return self.patience is not None and standing.worse >= self.patience


def check_validation(values: Mapping[str, Any], validation: FilledData | None, standing: Standing | None = None) -> None:
    """Raise UserError for options of validation where no images are kept for it, and where the run to resume has ended early.

    `standing` is that of the state to go on from.
    """
    if standing is not None and standing.worse and ValidationPlan.from_values(values).enough(standing):
        raise UserError(
            f"--resume {values['resume']}: {standing.worse} validations in a row were no better than the one after update "
            f"{standing.best_step}, which ended this run early; raise --early_stop_patience (now {values['early_stop_patience']}) or leave "
            "it out"
        )
    given = [field for field in _NEED_IMAGES if values[field]]
    if given and validation is None:
        raise UserError(
            f"--{given[0]}: there are no images to validate with; add --validation_split 0.1, or validation_split in a subset (of a folder "
            "with at least two images)"
        )
