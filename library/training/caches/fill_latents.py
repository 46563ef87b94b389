"""Fills the disk cache of latents for a dataset before a run, or empties it, as tools/cache_latents.py does."""

from __future__ import annotations

from accelerate import Accelerator

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
from library.training.caches.latents import exchange, make, vae_in
from library.training.caches.prepare_latents import in_open_folders
from library.training.planning.inputs import blueprint_of
from library.training.precision import check_device
from library.words import counted


def fill_cache(options: CacheLatents) -> None:
    """Make what `--cache_latents_to_disk` would make for these images, or with --remove delete it.

    Raises PartlyDone, all the rest made, with a line for each image that cannot be read (unless --skip_bad_images leaves them out) and
    each folder that cannot be written to, and UserError for other faults of the data.
    """
    given, wanted = options.model, options.data
    if wanted.dataset_class is not None:
        raise UserError(coded("OPT-008", "--dataset_class: a class makes its own batches, so there are no images to encode; remove it"))
    if wanted.dataset_config is None and wanted.train_data_dir is None and wanted.in_json is None:
        raise UserError(coded("OPT-007", "--dataset_config or --train_data_dir is missing: one of them must name the training images"))
    model = given.vae or given.pretrained_model_name_or_path
    if model is None and not given.remove:
        raise UserError(
            coded("OPT-007", "--pretrained_model_name_or_path is missing: the model of the training run, whose VAE encodes the latents")
        )
    blueprint = blueprint_of(wanted)
    if contradictions := check_caching(blueprint):
        raise UserError(*contradictions)
    found, faults, skips = scan(blueprint, skip_unreadable=True), Faults(), wanted.skip_bad_images
    data = fill(found)
    told_at_the_end = set() if skips or given.remove else {str(left_out(line)) for line in found.unreadable}
    for finding in data.findings:
        if finding not in told_at_the_end:
            log.warning(finding)
    if given.remove:
        log.info("latents of %s deleted", counted(remove_files(data), "image"))
        return
    assert model is not None
    accelerator = Accelerator()
    check_device(given.mixed_precision, accelerator.device)
    vae, fingerprint, precision = vae_in(model, given.mixed_precision, "--vae" if given.vae else "--pretrained_model_name_or_path")
    rules = CacheRules(fingerprint, precision, wanted.cache_latents_kind == "distribution", cache_file)
    source = look(data, rules, accelerator.process_index, accelerator.num_processes, exchange(accelerator))
    tell(source.verdicts.values())
    source, _ = in_open_folders(source, faults)
    cache = make(source, wanted.vae_batch_size, wanted.max_data_loader_n_workers, vae, accelerator)
    bad = [*(coded("DATA-001", f"image {line}; remove or replace it") for line in found.unreadable), *cache.unreadable]
    for line in cache.unreadable if skips else bad:
        (log.warning if skips else faults.add)(line)
    if cache.in_memory:
        raise UserError(
            coded(
                "DISK-003",
                "--dataset_config: not all latents could be written, see above; free some space and start again, finished ones are kept",
            )
        )
    ready = sum(work.file is not None and is_there(work.file) for work in source.works)
    told = f"latents of {counted(ready, 'image')} are ready for --cache_latents_to_disk"
    faults.raise_if_any(told, ready)
    log.info(told)
