"""Errors and unusual combinations in the options of noise, loss and averaging."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.rules.option_view import OptionView
from library.options.timestep_bias import Table, read_bias


def noise_and_loss(options: OptionView) -> Iterator[Problem]:
    """Contradictions in the options of noise and loss."""
    if options.adaptive_noise_scale and options.noise_offset is None:
        lacking = "none is set; add --noise_offset 0.1"
        yield coded("OPT-009", f"{options.at('adaptive_noise_scale')}: changes the noise offset, and {lacking} or remove it")
    if options.scale_v_pred_loss_like_noise_pred and not options.v_parameterization:
        yield coded(
            "OPT-008",
            f"{options.at('scale_v_pred_loss_like_noise_pred')}: is only for models trained with --v_parameterization; remove it",
        )
    if options.v_pred_like_loss and options.v_parameterization:
        yield coded(
            "OPT-008", f"{options.at('v_pred_like_loss')}: is for models that predict noise, not for --v_parameterization; remove it"
        )
    if options.zero_terminal_snr and not options.v_parameterization:
        for field in ("debiased_estimation_loss", "v_pred_like_loss"):
            if getattr(options, field):
                yield coded(
                    "OPT-008",
                    f"{options.at(field)}: has an infinite weight at the last timestep of --zero_terminal_snr unless the model "
                    "predicts v (--v_parameterization); remove one of them",
                )
    if options.min_timestep >= options.max_timestep:
        yield coded(
            "OPT-008",
            f"{options.at('min_timestep')}: {options.min_timestep} is not below --max_timestep {options.max_timestep}, so no timesteps are "
            "left; 0 and 1000 include all of them",
        )
    yield from _timesteps(options)
    if options.huber_c <= 0 or (options.huber_c > 1 and options.huber_schedule != "constant"):
        upper = "" if options.huber_schedule == "constant" else " and at most 1"
        yield coded("OPT-006", f"{options.at('huber_c')}: must be over 0{upper}, not {options.huber_c:g}; 0.1 is the usual value")
    if options.huber_scale <= 0:
        yield coded("OPT-006", f"{options.at('huber_scale')}: must be over 0, not {options.huber_scale:g}; 1 is the usual value")


def _timesteps(options: OptionView) -> Iterator[Problem]:
    """The timestep bias must fit the sampling and leave a timestep to train."""
    place = options.at("timestep_bias" if options.timestep_bias else "timestep_sampling")
    try:
        bias = read_bias(options.timestep_sampling, options.timestep_bias)
    except ValueError as fault:
        yield coded("OPT-006", f"{place}: {fault}")
        return
    among = range(options.min_timestep, options.max_timestep)
    if isinstance(bias, Table) and among and not any(bias.weights(among)):
        yield coded("OPT-006", f"{place}: all trained timesteps have the weight 0; give at least one a weight over 0")


def prior(options: OptionView) -> Iterator[Problem]:
    """What contradicts `--prior_from_base`."""
    if options.prior_from_base is None:
        return
    if options.dataset_class is not None:
        yield coded(
            "OPT-008",
            f"{options.at('prior_from_base')}: changes captions, but --dataset_class makes its captions itself; remove it",
        )


def averaging(options: OptionView) -> Iterator[Problem]:
    """A decay that averages nothing."""
    if options.ema_decay is not None and options.ema_decay >= 1:
        yield coded("OPT-006", f"{options.at('ema_decay')}: must be below 1, or the average never changes; start with 0.999")


def loss_remarks(options: OptionView) -> Iterator[str]:
    """Options without effect, and the consequences of zero terminal SNR."""
    if options.prior_from_base is None:
        for field in ("prior_prompt", "prior_identifier", "prior_share"):
            if options.differs(field):
                yield f"{options.at(field)}: has no effect without --prior_from_base; add --prior_from_base 1"
    if options.noise_offset and options.multires_noise_iterations:
        yield f"{options.at('noise_offset')}: --multires_noise_iterations serves the same purpose, and both apply; usually only one is used"
    for field, base, usual in (
        ("noise_offset_random_strength", "noise_offset", "--noise_offset 0.1"),
        ("ip_noise_gamma_random_strength", "ip_noise_gamma", "--ip_noise_gamma 0.1"),
    ):
        if getattr(options, field) and not getattr(options, base):
            yield f"{options.at(field)}: has no effect: it chooses strengths up to --{base}, which is missing; add {usual}"
    if options.debiased_estimation_loss and options.min_snr_gamma:
        yield f"{options.at('debiased_estimation_loss')}: multiplies its weights with those of --min_snr_gamma; usually only one is used"
    if options.adaptive_noise_scale and options.noise_offset == 0:
        yield f"{options.at('adaptive_noise_scale')}: has no effect with --noise_offset 0"
    if options.multires_noise_iterations and not options.multires_noise_discount:
        yield f"{options.at('multires_noise_discount')}: 0 removes the coarser noise; 0.3 is the usual value"
    if options.loss_type not in ("huber", "smooth_l1"):
        for field in ("huber_schedule", "huber_c", "huber_scale"):
            if options.differs(field):
                yield f"{options.at(field)}: has no effect without --loss_type huber or smooth_l1"
    if options.zero_terminal_snr and not options.v_parameterization:
        yield (
            f"{options.at('zero_terminal_snr')}: a model that predicts noise learns nothing from pure noise, and samplers "
            "divide by a signal of 0: images may break; it is intended for --v_parameterization"
        )
    elif options.zero_terminal_snr and (
        options.min_snr_gamma is not None or options.debiased_estimation_loss or options.scale_v_pred_loss_like_noise_pred
    ):
        yield (
            f"{options.at('zero_terminal_snr')}: min-SNR, debiased and noise-like weights are 0 at the last timestep, so it is not trained"
        )
    if options.ema_for_samples and options.ema_decay is None:
        yield f"{options.at('ema_for_samples')}: has no effect without --ema_decay"
    if options.conditioning_data_dir is not None and options.dataset_config is not None:
        yield (
            f"{options.at('conditioning_data_dir')}: not used, since it only applies to --train_data_dir; "
            f"write conditioning_data_dir = '…' into the subsets of {options.dataset_config}"
        )
    elif options.conditioning_data_dir is not None and not options.masked_loss and not options.train_inpainting:
        yield f"{options.at('conditioning_data_dir')}: has no effect without --masked_loss"
