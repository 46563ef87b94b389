"""Options that change the noise and the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from library.options.bounds import MOST_NOISE, MOST_WEIGHT
from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class DiffusionOptions:
    """Noise and loss"""

    noise_offset: float | None = opt(
        None,
        "Adds a random constant to the noise so that very dark and very bright images are learned better. Usually about 0.1. Default: off.",
        at_least=0,
        at_most=MOST_NOISE,
    )
    adaptive_noise_scale: float | None = opt(
        None,
        "Experimental, with --noise_offset: the offset grows with how dark or bright an image is. From a tenth of the offset up to "
        "the offset; "
        "may be negative.",
        at_least=-MOST_NOISE,
        at_most=MOST_NOISE,
    )
    noise_offset_random_strength: bool = opt(False, "With --noise_offset: choose each image's strength at random between 0 and that value.")
    ip_noise_gamma: float | None = opt(
        None,
        "Input perturbation: adds noise to the model's input but not to its target, against errors that accumulate in sampling. "
        "Usually about 0.1. Default: off.",
        at_least=0,
        at_most=MOST_NOISE,
    )
    ip_noise_gamma_random_strength: bool = opt(
        False, "With --ip_noise_gamma: choose each image's strength at random between 0 and that value."
    )
    multires_noise_iterations: int | None = opt(
        None,
        "Adds noise at this many resolutions (pyramid noise); usually 6 to 10. Default: off.",
        at_least=0,
        at_most=1000,
    )
    multires_noise_discount: float = opt(
        0.3,
        "Weight of each coarser level of that noise: 0.1 to 0.3 for LoRA and small datasets, 0.8 for large ones.",
        at_least=0,
        at_most=1,
    )
    min_snr_gamma: float | None = opt(
        None,
        "Weights the loss so that training converges faster (Min-SNR). The paper recommends 5; 0 = off. Default: off.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )
    scale_v_pred_loss_like_noise_pred: bool = opt(
        False,
        "With --v_parameterization: weight the loss over the timesteps as for a noise-predicting model.",
    )
    debiased_estimation_loss: bool = opt(
        False,
        "Weights the loss so that image errors count more evenly over the timesteps. With --min_snr_gamma both weights multiply.",
    )
    v_pred_like_loss: float | None = opt(
        None,
        "For models that predict noise: how much of a v-predicting model's loss to add; start with 0.1. Default: off.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )
    loss_type: Literal["l1", "l2", "huber", "smooth_l1"] = opt(
        "l2",
        "How the error is measured: l2 (squared), l1, huber or smooth_l1 (both squared near 0 and absolute far from it: less sensitive to "
        "outliers).",
    )
    huber_schedule: Literal["constant", "exponential", "snr"] = opt(
        "snr",
        "How the threshold between squared and absolute of huber and smooth_l1 changes over the timesteps.",
    )
    huber_c: float = opt(
        0.1,
        "That threshold at the noisiest timestep (with constant: at every timestep); over 0, at most 1.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )
    huber_scale: float = opt(1.0, "Multiplies that threshold at all timesteps.", at_least=0, at_most=MOST_WEIGHT)
    min_timestep: int = opt(
        0, "Train only timesteps from this one up, 0 to 999: low ones affect detail, high ones composition.", at_least=0, at_most=999
    )
    max_timestep: int = opt(1000, "Train only timesteps below this one, 1 to 1000.", at_least=1, at_most=1000)
    timestep_sampling: Literal["uniform", "logit_normal", "table"] = opt(
        "uniform",
        "How timesteps are sampled: uniformly, more often around the middle (or where --timestep_bias says), or by a table of weights.",
        leniency=Leniency(of_other_models=("sigma", "sigmoid", "shift", "flux_shift")),
    )
    timestep_bias: tuple[str, ...] = opt(
        (),
        "For --timestep_sampling logit_normal: mean=0 std=1; a mean over 0 for more noise. For table: weights by timestep, interpolated "
        "linearly, such as 0:1 500:3 999:1.",
        leniency=Leniency(commas=True),
    )
    stratified_timesteps: bool = opt(
        False,
        "Spread the timesteps of an update's images evenly over the range instead of sampling each alone: a steadier loss. How often an "
        "image gets a timestep stays the same.",
    )
    zero_terminal_snr: bool = opt(
        False,
        "Train with a schedule that ends in pure noise, so that really dark and bright images can be generated. For --v_parameterization. "
        "Samples of the suite use it too, other programs need their own setting.",
    )
    masked_loss: bool = opt(
        False,
        "Compute the loss only where mask images are white; conditioning_data_dir names their folder, per subset or on the command line.",
    )
