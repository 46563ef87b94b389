"""The latents of a run, read from the disk cache or encoded as the options ask; the VAE is on the device only while it is needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from library.console import log, progress
from library.data.batching.buckets import FilledData
from library.data.config.blueprint import check_caching
from library.data.loading.loader import worker_count
from library.data.pixels.device_copies import to_device
from library.data.pixels.latent_build import LatentSource, build, look
from library.data.pixels.latent_cache import LatentCache
from library.data.pixels.latent_files import cache_file
from library.data.pixels.latent_plan import NEW, CacheRules, tell
from library.errors import UserError, coded
from library.files import is_image
from library.model.bundle import moments
from library.model.files.fingerprint import encoder_fingerprint
from library.model.load import check_vae, load_vae
from library.options.groups.data import DataOptions
from library.telling.environment import variables_named
from library.training.planning.source import Source
from library.training.precision import check_device, frozen_dtype
from library.words import counted

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


def latents_of(source: Source, options: DataOptions, vae: AutoencoderKL, weights: str, accelerator: Accelerator) -> LatentCache | None:
    """The cached latents of the source's images; None where batches are encoded when needed, or contain latents.

    `weights` is the file or id that `vae` was loaded from; the VAE stays on the device only where batches need it.
    """
    data = source.cacheable()
    if data is not None:
        cache = latent_cache(options, data, vae, weights, accelerator)
        if cache is not None and data.blueprint.inpainting:
            _check_images(data)
            vae.to(accelerator.device)  # masks change each time an image is shown, so masked images are never cached
        return cache
    vae.to("cpu" if source.are_latents else accelerator.device)
    return None


def _check_images(data: FilledData) -> None:
    """Raise UserError if an image that has to be masked exists only as latents."""
    gone = [str(record.path) for record in data.records if not is_image(record.path)]
    if gone:
        problem = f"of {counted(len(gone), 'image')} there are only latents, such as {gone[0]}, which cannot be masked"
        raise UserError(coded("DATA-015", f"--train_inpainting: {problem}; put the images next to them"))


def latent_cache(options: DataOptions, data: FilledData, vae: AutoencoderKL, source: str, accelerator: Accelerator) -> LatentCache | None:
    """The cache of `--cache_latents` or `--cache_latents_to_disk`, or of the latents that prepare_buckets_latents.py wrote for all images.

    Returns None where images are decoded and encoded when they are shown; the VAE is then on the device. `source` is the file or id that
    `vae` was loaded from. Raises UserError for missing images whose latents cannot be used.
    """
    wanted = options.cache_latents or options.cache_latents_to_disk
    gone = [str(record.path) for record in data.records if not is_image(record.path)]
    faults = check_caching(data.blueprint)
    if gone and faults:
        raise UserError(*(fault.reworded(f"{fault}; {gone[0]} has latents but no image") for fault in faults))
    if faults and any(record.subset.as_prepared for record in data.records):
        log.warning("prepared latents are not used, all images are decoded when needed: %s", faults[0])
    if wanted or (not faults and any(record.train_resolution for record in data.records)):
        rules = CacheRules(
            # of the weights in the file, before this run's precision rounds them
            encoder_fingerprint(vae if vae.dtype == torch.float32 else load_vae(source, torch.float32)),
            _precision(vae),
            options.cache_latents_kind == "distribution",
            cache_file if options.cache_latents_to_disk else None,
        )
        latents = look(data, rules, accelerator.process_index, accelerator.num_processes, exchange(accelerator))
        if any(verdict != NEW for verdict in latents.verdicts.values()):
            tell(latents.verdicts.values())
        if wanted or _usable(latents):
            return make(latents, options.vae_batch_size, options.max_data_loader_n_workers, vae, accelerator)
    vae.to(accelerator.device)
    return None


def _usable(latents: LatentSource) -> bool:
    """Whether prepared latents can be used: all images of the prepared subsets have them.

    Warns if only some have them, and logs how many images of other subsets are encoded now, since a batch contains either latents or
    images. Raises UserError for missing images whose latents cannot be used.
    """
    if not latents.missing:
        return True
    if lost := latents.without_image():
        raise UserError(*lost)
    prepared = {latents.of_record[number] for number, record in enumerate(latents.filled.records) if record.subset.as_prepared}
    if prepared and prepared.isdisjoint(latents.missing):
        log.info("latents: encoding %s from unprepared subsets, kept in memory", counted(len(latents.missing), "image"))
        return True
    if any(verdict != NEW for verdict in latents.verdicts.values()):
        log.warning(
            "prepared latents are not used, since not all images have them: all images are decoded when needed; "
            "run finetune/prepare_buckets_latents.py again, or add --cache_latents"
        )
    return False


def make(
    latents: LatentSource,
    batch_size: int,
    threads: int | None,
    vae: AutoencoderKL,
    accelerator: Accelerator,
    on_disk_only: bool = False,
) -> LatentCache:
    """Encode the missing latents on the accelerator's device; the VAE is on the CPU afterwards. `on_disk_only`: see `build`."""
    if latents.missing:
        vae.to(accelerator.device)
    cache = build(
        latents,
        lambda images: moments(vae, to_device(images, accelerator.device)),
        batch_size,
        max(1, worker_count(threads)),
        progress=partial(progress, label="caching latents", unit="image"),
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        gather=exchange(accelerator),
        on_disk_only=on_disk_only,
    )
    vae.to("cpu")
    return cache


def accelerator_for(mixed_precision: str) -> Accelerator:
    """The device and the processes of a tool that encodes. Raises UserError if the device does not support the precision."""
    with variables_named():
        accelerator = Accelerator()
    check_device(mixed_precision, accelerator.device)
    return accelerator


def exchange(accelerator: Accelerator) -> Callable[[Any], list[Any]] | None:
    """A function that gathers the parts of all processes; None with a single process."""
    return (lambda part: gather_object([part])) if accelerator.num_processes > 1 else None


def vae_in(source: str, mixed_precision: str, option: str) -> tuple[AutoencoderKL, str, str]:
    """The VAE of a model or VAE file in the requested precision, the fingerprint of its encoder, and the name of that precision."""
    vae = load_vae(source, torch.float32, option)
    check_vae(vae, f"{option} {source}")
    fingerprint = encoder_fingerprint(vae)
    dtype = frozen_dtype(mixed_precision)
    return vae if dtype == torch.float32 else load_vae(source, dtype, option), fingerprint, _name(dtype)


def _precision(vae: AutoencoderKL) -> str:
    """The precision that the encoder computes in, to which latents are bound; with tiles they differ slightly."""
    return _name(vae.dtype) + (" in tiles" if getattr(vae, "use_tiling", False) else "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
