"""The latents of a run: found in files or made once, as the options ask; the VAE is on the device only for that."""

from __future__ import annotations

from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from library.console import log, progress
from library.data.blueprint import check_caching
from library.data.buckets import FilledData
from library.data.latent_build import LatentSource, build, look
from library.data.latent_cache import LatentCache
from library.data.latent_plan import NEW, CacheRules, tell
from library.data.loader import worker_count
from library.errors import UserError
from library.files import is_image
from library.model.fingerprint import encoder_fingerprint
from library.options.data import DataOptions


def latent_cache(options: DataOptions, data: FilledData, model: Any, accelerator: Accelerator) -> LatentCache | None:
    """The cache of `--cache_latents` or `--cache_latents_to_disk`, or of latents that prepare_buckets_latents.py has made of all images;
    None where images are decoded and encoded as they are drawn, with the VAE on the device.

    Raises UserError for images that are gone and whose latents cannot be used.
    """
    wanted = options.cache_latents or options.cache_latents_to_disk
    gone = [str(record.path) for record in data.records if not is_image(record.path)]
    faults = check_caching(data.blueprint)
    if gone and faults:
        raise UserError(*(f"{fault}; {gone[0]} has latents but no image" for fault in faults))
    if wanted or (not faults and any(record.train_resolution for record in data.records)):
        rules = CacheRules(encoder_fingerprint(model.vae), options.cache_latents_kind == "distribution", options.cache_latents_to_disk)
        gather = (lambda part: gather_object([part])) if accelerator.num_processes > 1 else None
        source = look(data, rules, accelerator.process_index, accelerator.num_processes, gather)
        if wanted or _complete(source):
            return made_cache(source, options.vae_batch_size, options.max_data_loader_n_workers, model, accelerator)
    model.vae.to(accelerator.device)
    return None


def made_cache(source: LatentSource, batch_size: int, threads: int | None, model: Any, accelerator: Accelerator) -> LatentCache:
    """Tell what there is, and encode the rest on the accelerator's device."""
    if any(verdict != NEW for verdict in source.verdicts.values()):
        tell(source.verdicts.values())
    model.vae.to(accelerator.device)
    cache = build(
        source,
        lambda images: model.moments(images.to(accelerator.device)),
        batch_size,
        max(1, worker_count(threads)),
        progress=partial(progress, label="caching latents", unit="image"),
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        gather=(lambda part: gather_object([part])) if accelerator.num_processes > 1 else None,
    )
    model.vae.to("cpu")
    return cache


def _complete(source: LatentSource) -> bool:
    """Whether all images have prepared latents that fit; tells where only some have."""
    if not source.missing:
        return True
    if lost := source.without_image():
        raise UserError(*lost)
    if len(source.missing) < len(source.verdicts) or any(verdict != NEW for verdict in source.verdicts.values()):
        tell(source.verdicts.values())
        log.warning(
            "latents made beforehand are not used, since not all images have them: all images are decoded as they are drawn; "
            "run finetune/prepare_buckets_latents.py again, or add --cache_latents"
        )
    return False
