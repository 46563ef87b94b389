"""Options of the sample images during training."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.bounds import MOST_EPOCHS, MOST_SEED, MOST_STEPS
from library.options.declare import Leniency, opt

SAMPLERS = (
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle",
    "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
)  # fmt: skip


@dataclass(frozen=True)
class SamplingOptions:
    """Sample images during training"""

    sample_every_n_steps: int | None = opt(
        None, "Generate sample images every N updates.", at_least=1, at_most=MOST_STEPS, leniency=Leniency(zero_is_off=True)
    )
    sample_every_n_epochs: int | None = opt(
        None,
        "Generate sample images every N epochs. Overrides --sample_every_n_steps.",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    sample_at_first: bool = opt(False, "Also generate sample images before the first update, for comparison.")
    sample_prompts: str | None = opt(
        None,
        "File with the prompts of the samples (.txt, .toml or .json). In a .txt file one per line, '#' starts a comment, and "
        "--n negative --w width --h height --d seed --l guidance --s steps may follow a prompt.",
        path="file",
    )
    sample_seed: int | None = opt(
        None,
        "Seed for prompts without --d: the first prompt uses it, the second the next number, and so on. The noise is the same each time, "
        "so that only the training makes the difference. Default: new seeds each time.",
        at_least=0,
        at_most=MOST_SEED,
        leniency=Leniency(negative_is_off=True),
    )
    sample_sampler: str = opt("ddim", "Sampler for sample images.", choices=SAMPLERS)
