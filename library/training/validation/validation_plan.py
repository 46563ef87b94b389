"""When a run validates, whether it saves the best result, and when it ends early; known before torch is imported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from library.data.batching.buckets import FilledData
from library.errors import UserError, coded
from library.options.groups.validation import ValidationOptions
from library.training.states.state import Standing
from library.words import counted


@dataclass(frozen=True)
class ValidationPlan:
    """`every_n_steps` and `every_n_epochs` both apply; `max_batches` counts batches over all processes."""

    seed: int = 0
    every_n_steps: int | None = None
    every_n_epochs: int | None = 1
    max_batches: int | None = None
    save_best: bool = False
    patience: int | None = None

    @classmethod
    def from_options(cls, options: ValidationOptions) -> ValidationPlan:
        """Build from the options."""
        steps, epochs = options.validate_every_n_steps, options.validate_every_n_epochs
        return cls(
            seed=options.validation_seed or 0,
            every_n_steps=steps,
            every_n_epochs=1 if steps is None and epochs is None else epochs,
            max_batches=options.max_validation_steps,
            save_best=options.save_best or options.early_stop_patience is not None,
            patience=options.early_stop_patience,
        )

    def images(self, data: FilledData) -> str:
        """Return a digest of what is measured: `Standing.images`."""
        lines = [f"{self.seed} {self.max_batches} {data.blueprint.datasets[0].options.batch_size if self.max_batches else 0}"]
        lines += [f"{record.key} {place.bucket} {record.caption}" for record, place in zip(data.records, data.placements, strict=True)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def due(self, step: int, epoch: int, at_epoch_end: bool) -> bool:
        """Return whether to validate after `step` updates and `epoch` whole epochs."""
        if at_epoch_end:
            return self.every_n_epochs is not None and epoch % self.every_n_epochs == 0
        return self.every_n_steps is not None and step % self.every_n_steps == 0

    def enough(self, standing: Standing) -> bool:
        """Return whether training must end early."""
        return self.patience is not None and standing.worse >= self.patience


def check_ended_early(options: ValidationOptions, standing: Standing, resume: str | None) -> None:
    """Raise UserError if the run to resume, with the state `resume` and this `standing`, ended early."""
    if standing.worse and ValidationPlan.from_options(options).enough(standing):
        raise UserError(
            coded(
                "STATE-007",
                f"--resume {resume}: {counted(standing.worse, 'validation', 'validations in a row')} "
                f"did not improve on the one after update "
                f"{standing.best_step}, which ended this run early; raise --early_stop_patience (now {options.early_stop_patience}) or "
                "remove it",
            )
        )


def check_has_images(options: ValidationOptions, validation: FilledData | None) -> None:
    """Raise UserError for validation options if there are no images for validation."""
    need_images = {
        "--validate_every_n_steps": options.validate_every_n_steps,
        "--validate_every_n_epochs": options.validate_every_n_epochs,
        "--max_validation_steps": options.max_validation_steps,
        "--save_best": options.save_best,
        "--early_stop_patience": options.early_stop_patience,
    }
    flag = next((flag for flag, value in need_images.items() if value), None)
    if flag is not None and validation is None:
        raise UserError(
            coded(
                "DATA-014",
                f"{flag}: no images to validate with; add --validation_split 0.1, or validation_split in a subset (of a folder "
                "with at least two images)",
            )
        )
