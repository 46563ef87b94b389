"""Loads the model of a run, attaches the method, and restores the weights that training starts or resumes with."""

from __future__ import annotations

import torch

from library.console import log
from library.method import RemembersBase
from library.model.attention import set_attention
from library.model.bundle import StableDiffusion
from library.model.load import load
from library.seeds import fold
from library.training.planning.caption_lengths import tell_long_captions
from library.training.precision import frozen_dtype, settle_dtypes, trained_dtype
from library.training.run_context import RunStart
from library.training.speed.kernels import choose_kernels
from library.training.states.accelerate_state_files import load_accelerate_weights
from library.training.states.state_files import load_weights
from library.words import in_words


def ready_model(run: RunStart) -> StableDiffusion:
    """Return the `StableDiffusion` to train, with the method attached and the tokenizer for the captions.

    Raises UserError for files that do not fit.
    """
    method, resumed = run.method, run.inputs.resumed
    model = _loaded(run)
    tell_long_captions(run.inputs.source.captions(), model.tokenizer)
    torch.manual_seed(fold(run.state.seed, "new weights") & 0xFFFF_FFFF_FFFF)  # new weights start the same in every run and process
    method.attach(model)
    settle_dtypes(model, method, run.options.training)
    if resumed and resumed.accelerate:
        load_accelerate_weights(resumed.accelerate, method)
    elif resumed:
        load_weights(resumed.folder, method)
    if run.state.step:
        method.go_on(run.state.step)
    if run.options.training.gradient_checkpointing:
        _checkpoint_gradients(model)
    choose_kernels(model, run.options.training, run.device)
    if run.inputs.data.prior_from_base is not None:
        _ready_base(run, model)
    return model


def _ready_base(run: RunStart, model: StableDiffusion) -> None:
    """Give the method's copies of the model's parts, if any, the dtype of frozen weights and the model's kernels."""
    assert isinstance(run.method, RemembersBase), "scripts whose methods do not remember have no --prior_from_base"
    with run.method.as_before() as base:
        copies = [part for part in (base.unet, *base.text_encoders) if part not in (model.unet, *model.text_encoders)]
        for parameter in (parameter for part in copies for parameter in part.parameters()):
            parameter.data = parameter.data.to(frozen_dtype(run.options.training.mixed_precision))
        if base.unet in copies:
            choose_kernels(base, run.options.training, run.device)
    if copies:
        log.info(f"--prior_from_base: a frozen copy of what is trained takes {in_words(sum(map(_bytes, copies)))}")


def _bytes(part: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in part.parameters())


def _loaded(run: RunStart) -> StableDiffusion:
    options = run.options
    files, training = options.model, options.training
    log.info(f"loading {files.start}")
    all_of_it = run.method.full_precision
    dtype = trained_dtype(training.full_fp16, training.full_bf16) if all_of_it else frozen_dtype(training.mixed_precision)
    model = load(
        files.start,
        files.v2,
        files.v_parameterization,
        files.vae,
        dtype,
        files.tokenizer_cache_dir,
        files.max_token_length,
        vae_dtype=torch.float32 if training.no_half_vae else None,
        device=run.device if training.lowram else "cpu",
    )
    model.half_vae = not training.no_half_vae
    if training.vae_slicing:
        model.vae.enable_slicing()
    if training.vae_tiling:
        model.vae.enable_tiling()
    if options.data.weighted_captions:
        model.tokenizer = model.tokenizer.with_settings(model.tokenizer.windows, weighted=True)
    attention = "xformers" if options.uses_xformers else "mem_eff" if training.mem_eff_attn else "sdpa"
    set_attention(model.unet, model.vae, attention)
    model.zero_terminal_snr = options.diffusion.zero_terminal_snr
    return model


def _checkpoint_gradients(model: StableDiffusion) -> None:
    model.unet.enable_gradient_checkpointing()
    for text_encoder in model.text_encoders:  # transformers renames the method; 5.17 has only the old name
        enable = getattr(text_encoder, "activation_checkpointing_enable", None) or text_encoder.gradient_checkpointing_enable
        enable()
