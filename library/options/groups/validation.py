"""Options of validation: the loss on images that are not trained on, and what depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.bounds import MOST_EPOCHS, MOST_SEED, MOST_STEPS
from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class ValidationOptions:
    """Validation"""

    validation_split: float = opt(
        0.0,
        "Keep this fraction of the images out of training and measure the loss on them, to detect overfitting; 0.1 is usual. 0 = off.",
        at_least=0,
        at_most=1,
    )
    validation_seed: int | None = opt(
        None,
        "Seed that chooses these images and their noise. Default: 0, independent of --seed, so that runs with other seeds can be compared.",
        at_least=0,
        at_most=MOST_SEED,
    )
    validate_every_n_steps: int | None = opt(
        None, "Validate every N updates.", at_least=1, at_most=MOST_STEPS, leniency=Leniency(zero_is_off=True)
    )
    validate_every_n_epochs: int | None = opt(
        None,
        "Validate every N epochs. Default if neither is set: after every epoch.",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    max_validation_steps: int | None = opt(
        None, "Validate on at most this many batches. Default: all validation images.", at_least=1, at_most=MOST_STEPS
    )
    save_best: bool = opt(False, "Also save the result with the lowest validation loss, as <name>-best.")
    early_stop_patience: int | None = opt(
        None,
        "End training after this many validations in a row without improvement. Saves <name>-best too.",
        at_least=1,
        at_most=MOST_EPOCHS,
    )
