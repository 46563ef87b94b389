"""Errors and unusual combinations in the options of noise, loss and averaging."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.rules.option_view import Given
from library.options.timestep_bias import Table, read_bias


def noise_and_loss(given: Given) -> Iterator[Problem]:
    """Contradictions in the options of noise and loss."""
    if given.adaptive_noise_scale and given.noise_offset is None:
        lacking = "none is set; add --noise_offset 0.1"
        yield coded("OPT-009", f"{given.at('adaptive_noise_scale')}: changes the noise offset, and {lacking} or remove it")
    if given.scale_v_pred_loss_like_noise_pred and not given.v_parameterization:
        yield coded(
            "OPT-008",
            f"{given.at('scale_v_pred_loss_like_noise_pred')}: is only for models trained with --v_parameterization; remove it",
        )
    if given.v_pred_like_loss and given.v_parameterization:
        yield coded("OPT-008", f"{given.at('v_pred_like_loss')}: is for models that predict noise, not for --v_parameterization; remove it")
    if given.zero_terminal_snr and not given.v_parameterization:
        for field in ("debiased_estimation_loss", "v_pred_like_loss"):
            if getattr(given, field):
                yield coded(
                    "OPT-008",
                    f"{given.at(field)}: has an infinite weight at the last timestep of --zero_terminal_snr unless the model "
                    "predicts v (--v_parameterization); remove one of them",
                )
    if given.min_timestep >= given.max_timestep:
        yield coded(
            "OPT-008",
            f"{given.at('min_timestep')}: {given.min_timestep} is not below --max_timestep {given.max_timestep}, so no timesteps are "
            "left; 0 and 1000 include all of them",
        )
    yield from _timesteps(given)
    if given.huber_c <= 0 or (given.huber_c > 1 and given.huber_schedule != "constant"):
        upper = "" if given.huber_schedule == "constant" else " and at most 1"
        yield coded("OPT-006", f"{given.at('huber_c')}: must be over 0{upper}, not {given.huber_c:g}; 0.1 is the usual value")
    if given.huber_scale <= 0:
        yield coded("OPT-006", f"{given.at('huber_scale')}: must be over 0, not {given.huber_scale:g}; 1 is the usual value")


def _timesteps(given: Given) -> Iterator[Problem]:
    """The timestep bias must fit the sampling and leave a timestep to train."""
    place = given.at("timestep_bias" if given.timestep_bias else "timestep_sampling")
    try:
        bias = read_bias(given.timestep_sampling, given.timestep_bias)
    except ValueError as fault:
        yield coded("OPT-006", f"{place}: {fault}")
        return
    among = range(given.min_timestep, given.max_timestep)
    if isinstance(bias, Table) and among and not any(bias.weights(among)):
        yield coded("OPT-006", f"{place}: all trained timesteps have the weight 0; give at least one a weight over 0")


def prior(given: Given) -> Iterator[Problem]:
    """What contradicts `--prior_from_base`."""
    if given.prior_from_base is None:
        return
    if given.dataset_class is not None:
        yield coded(
            "OPT-008",
            f"{given.at('prior_from_base')}: changes captions, but --dataset_class makes its captions itself; remove it",
        )


def averaging(given: Given) -> Iterator[Problem]:
    """A decay that averages nothing."""
    if given.ema_decay is not None and given.ema_decay >= 1:
        yield coded("OPT-006", f"{given.at('ema_decay')}: must be below 1, or the average never changes; start with 0.999")


def loss_remarks(given: Given) -> Iterator[str]:
    """Options without effect, and the consequences of zero terminal SNR."""
    if given.prior_from_base is None:
        for field in ("prior_prompt", "prior_identifier", "prior_share"):
            if given.differs(field):
                yield f"{given.at(field)}: has no effect without --prior_from_base; add --prior_from_base 1"
    if given.noise_offset and given.multires_noise_iterations:
        yield f"{given.at('noise_offset')}: --multires_noise_iterations serves the same purpose, and both apply; usually only one is used"
    for field, base, usual in (
        ("noise_offset_random_strength", "noise_offset", "--noise_offset 0.1"),
        ("ip_noise_gamma_random_strength", "ip_noise_gamma", "--ip_noise_gamma 0.1"),
    ):
        if getattr(given, field) and not getattr(given, base):
            yield f"{given.at(field)}: has no effect: it chooses strengths up to --{base}, which is missing; add {usual}"
    if given.debiased_estimation_loss and given.min_snr_gamma:
        yield f"{given.at('debiased_estimation_loss')}: multiplies its weights with those of --min_snr_gamma; usually only one is used"
    if given.adaptive_noise_scale and given.noise_offset == 0:
        yield f"{given.at('adaptive_noise_scale')}: has no effect with --noise_offset 0"
    if given.multires_noise_iterations and not given.multires_noise_discount:
        yield f"{given.at('multires_noise_discount')}: 0 removes the coarser noise; 0.3 is the usual value"
    if given.loss_type not in ("huber", "smooth_l1"):
        for field in ("huber_schedule", "huber_c", "huber_scale"):
            if given.differs(field):
                yield f"{given.at(field)}: has no effect without --loss_type huber or smooth_l1"
    if given.zero_terminal_snr and not given.v_parameterization:
        yield (
            f"{given.at('zero_terminal_snr')}: a model that predicts noise learns nothing from pure noise, and samplers "
            "divide by a signal of 0: images may break; it is intended for --v_parameterization"
        )
    elif given.zero_terminal_snr and (
        given.min_snr_gamma is not None or given.debiased_estimation_loss or given.scale_v_pred_loss_like_noise_pred
    ):
        yield (
            f"{given.at('zero_terminal_snr')}: min-SNR, debiased and noise-like weights are 0 at the last timestep, so it is not trained"
        )
    if given.ema_for_samples and given.ema_decay is None:
        yield f"{given.at('ema_for_samples')}: has no effect without --ema_decay"
    if given.conditioning_data_dir is not None and given.dataset_config is not None:
        yield (
            f"{given.at('conditioning_data_dir')}: not used, since it only applies to --train_data_dir; "
            f"write conditioning_data_dir = '…' into the subsets of {given.dataset_config}"
        )
    elif given.conditioning_data_dir is not None and not given.masked_loss and not given.train_inpainting:
        yield f"{given.at('conditioning_data_dir')}: has no effect without --masked_loss"
