"""Options that change the noise and the loss."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class DiffusionOptions:
    """Noise and loss"""

    noise_offset: float | None = opt(
        None,
        "Adds a random constant to the noise so that very dark and very bright images are learnt better. About 0.1; left out = off.",
        at_least=0,
    )
    adaptive_noise_scale: float | None = opt(
        None,
        "Experimental, with --noise_offset: the offset grows with how dark or bright an image is. A tenth of the offset up to "
        "the offset; "
        "may be negative.",
    )
    multires_noise_iterations: int | None = opt(
        None,
        "Adds noise at several resolutions (pyramid noise), so many of them; 6 to 10. Left out = off.",
        at_least=0,
    )
    multires_noise_discount: float = opt(
        0.3,
        "How much each coarser level of that noise counts: 0.1 to 0.3 for LoRA and small sets, 0.8 for large ones.",
        at_least=0,
        at_most=1,
    )
    min_snr_gamma: float | None = opt(
        None,
        "Weighs the loss so that training settles faster (Min-SNR). 5 is the paper's advice; left out = off.",
        at_least=0,
    )
    scale_v_pred_loss_like_noise_pred: bool = opt(
        False,
        "With --v_parameterization: weigh the loss over the timesteps as a noise-predicting model does.",
    )
