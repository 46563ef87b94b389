"""Fills or empties the disk cache of latents of a dataset before a run (tools/cache_latents.py)."""

from __future__ import annotations

from library.console import log
from library.data.batching.buckets import fill
from library.data.config.blueprint import check_caching
from library.data.pixels.latent_build import look
from library.data.pixels.latent_files import cache_file
from library.data.pixels.latent_plan import CacheRules, remove_files, tell
from library.data.scan.records import left_out, scan
from library.errors import UserError, coded
from library.options.tool_groups.latents import CacheLatents
from library.partial_faults import Faults
from library.renaming import is_there
from library.training.caches.latents import accelerator_for, exchange, make, vae_in
from library.training.caches.prepare_latents import in_open_folders
from library.training.planning.inputs import blueprint_of
from library.words import counted, named


def fill_cache(options: CacheLatents) -> None:
    """Write the latents that `--cache_latents_to_disk` would write for these images, or delete them with --remove.

    Raises PartlyDone, after all other images are done, with a line for each image that cannot be read (unless --skip_bad_images skips it)
    and each folder that is not writable; raises UserError for other errors in the data.
    """
    model_options, data_options = options.model, options.data
    if data_options.dataset_class is not None:
        raise UserError(coded("OPT-008", "--dataset_class: a class makes its own batches, so there are no images to encode; remove it"))
    if data_options.dataset_config is None and data_options.train_data_dir is None and data_options.in_json is None:
        raise UserError(coded("OPT-007", "--dataset_config or --train_data_dir is missing: one of them must name the training images"))
    model = model_options.vae or model_options.pretrained_model_name_or_path
    if model is None and not model_options.remove:
        raise UserError(
            coded("OPT-007", "--pretrained_model_name_or_path is missing: the model of the training run, whose VAE encodes the latents")
        )
    blueprint = blueprint_of(data_options)
    if contradictions := check_caching(blueprint):
        raise UserError(*contradictions)
    scanned, faults, skips = scan(blueprint, skip_unreadable=True), Faults(), data_options.skip_bad_images
    data = fill(scanned)
    reported_at_end = set() if skips or model_options.remove else {str(left_out(line)) for line in scanned.unreadable}
    for finding in data.findings:
        if finding not in reported_at_end:
            log.warning(finding)
    if model_options.remove:
        log.info("latents of %s deleted", counted(remove_files(data), "image"))
        return
    assert model is not None
    accelerator = accelerator_for(model_options.mixed_precision)
    vae, fingerprint, precision = vae_in(
        model, model_options.mixed_precision, "--vae" if model_options.vae else "--pretrained_model_name_or_path"
    )
    rules = CacheRules(fingerprint, precision, data_options.cache_latents_kind == "distribution", cache_file)
    source = look(data, rules, accelerator.process_index, accelerator.num_processes, exchange(accelerator))
    tell(source.verdicts.values())
    source, _ = in_open_folders(source, faults)
    cache = make(source, data_options.vae_batch_size, data_options.max_data_loader_n_workers, vae, accelerator, on_disk_only=True)
    bad = [*(coded("DATA-001", f"image {line}; remove or replace it") for line in scanned.unreadable), *cache.unreadable]
    for line in cache.unreadable if skips else bad:
        (log.warning if skips else faults.add)(line)
    if cache.in_memory:
        option = "--dataset_config" if data_options.dataset_config else "--train_data_dir"
        problem = f"not all latents could be written to {named(cache.refused, 3)}"
        remedy = "free some space and start again; finished ones are kept"
        raise UserError(*faults.shown(), coded("DISK-003", f"{option}: {problem}; {remedy}"))
    ready = sum(work.file is not None and is_there(work.file) for work in source.works)
    summary = f"latents of {counted(ready, 'image')} are ready for --cache_latents_to_disk"
    faults.raise_if_any(summary, ready)
    log.info(summary)
