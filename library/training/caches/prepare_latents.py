"""Encodes the latents of a metadata file before fine_tune.py trains on it (finetune/prepare_buckets_latents.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from library.console import log
from library.containers.arrays_file import read_arrays
from library.data.batching.buckets import FilledData, fill
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, Size, SubsetOptions
from library.data.config.build import command_line_values, dataset_options
from library.data.pixels.latent_build import LatentSource, look
from library.data.pixels.latent_files import cache_file, moments_arrays, read_binding, read_latents, write_latents
from library.data.pixels.latent_plan import NEW, CacheRules, tell
from library.data.pixels.masks import opacity_of
from library.data.scan.image_headers import Unreadable, read_header
from library.data.scan.latent_headers import mirror_file, prepared_file
from library.data.scan.metadata_file import Keys, Metadata, read_metadata_file, write_metadata_file
from library.data.scan.records import ImageRecord, Scan
from library.errors import UserError, coded
from library.files import list_images
from library.options.tool_groups.latents import PrepareBucketsLatents, PrepareFilesOptions, PrepareSizesOptions
from library.partial_faults import Faults, in_writable_folders
from library.paths.look import is_file
from library.renaming import fits, is_there, too_long
from library.training.caches.latents import accelerator_for, make, vae_in
from library.words import counted, named

_ROOM = "free some space and start again with --skip_existing, which keeps finished ones"


def prepare(options: PrepareBucketsLatents) -> None:
    """Write `.npz` files next to the images that the metadata names, and the metadata with the train_resolution of each.

    Raises PartlyDone, after all other files are written, with a line for each image that cannot be read and each folder that is not
    writable; raises UserError for errors that stop it: sizes that do not fit, no image found, a full disk.
    """
    files, work = options.files, options.work
    sizes = _sizes(options.sizes)
    folder = files.train_data_dir
    table = read_metadata_file(files.in_json, "in_json")
    images = _images(table, files)
    faults = Faults()
    data = _filled(folder, images.values(), sizes, work.flip_aug, faults)
    accelerator = accelerator_for(work.mixed_precision)
    vae, fingerprint, precision = vae_in(files.model_name_or_path, work.mixed_precision, "model_name_or_path")
    source = look(data, CacheRules(fingerprint, precision, file_of=_file_of(folder, files.recursive)))
    if work.skip_existing:
        tell(source.verdicts.values())
    else:
        source = replace(source, verdicts=dict.fromkeys(source.verdicts, NEW))
    source, closed = in_open_folders(source, faults)
    cache = make(source, work.batch_size, work.max_data_loader_n_workers, vae, accelerator, on_disk_only=True)
    for line in cache.unreadable:
        faults.add(line)
    if cache.in_memory:
        problem = f"not all latents could be written to {named(cache.refused, 3)}, so {files.out_json} is not written"
        raise UserError(*faults.shown(), coded("DISK-003", f"train_data_dir: {problem}; {_ROOM}"))
    if options.work.alpha_mask.strip().lower() not in ("", "0", "no", "off", "false"):
        _write_masks(source)
    _write_mirrors(source)
    placed = enumerate(zip(data.records, data.placements, strict=True))
    done = {record.path: place.bucket for index, (record, place) in placed if cache.has(index) and source.of_record[index] not in closed}
    if not done:
        faults.raise_if_any("", 0)
    table |= {key: {**table[key], "train_resolution": list(done[image])} for key, image in images.items() if image in done}
    write_metadata_file(files.out_json, table, "out_json")
    _tell_buckets(data, done)
    summary = f"{files.out_json}, with the train_resolution of {counted(len(done), 'image')}"
    faults.raise_if_any(summary, len(done))
    log.info("result: %s", summary)


def _sizes(options: PrepareSizesOptions) -> DatasetOptions:
    values = {
        "resolution": options.max_resolution,
        "enable_bucket": True,
        "min_bucket_reso": options.min_bucket_reso,
        "max_bucket_reso": options.max_bucket_reso,
        "bucket_reso_steps": options.bucket_reso_steps,
        "bucket_no_upscale": options.bucket_no_upscale,
    }
    converted, faults = command_line_values(values)
    sizes, more = (None, []) if faults else dataset_options(converted, "--max_resolution")
    if sizes is None:
        raise UserError(*(line.reworded(line.replace("--resolution", "--max_resolution")) for line in (*faults, *more)))
    return sizes


def _images(table: Metadata, options: PrepareFilesOptions) -> dict[str, Path]:
    """{key: image} of the entries that name an image in the folder; a key that fits both a.jpg and a.png takes the first by name."""
    folder, in_json, full_path = options.train_data_dir, options.in_json, options.full_path
    listed = list_images(folder, options.recursive)
    keys = Keys(folder, listed, table, full_path)
    images = {key: image for image in listed if (key := keys.of(image)) in table}
    for image in () if full_path else listed:
        key = image.relative_to(folder).with_suffix("").as_posix()
        if key in table:
            images.setdefault(key, image)
    if not images:
        wording = "full paths; if they are not, remove --full_path" if full_path else "relative to it; if they are not, add --full_path"
        below = "" if options.recursive else ", and --recursive for images in subfolders"
        raise UserError(coded("DATA-006", f"in_json: {in_json} names no image in {folder}: its keys must be {wording}{below}"))
    used = set(images.values())
    left = [path.name for path in listed if path not in used]
    if left:
        log.warning("%s without an entry in %s, skipped: %s", counted(len(left), "image"), in_json, named(left))
    return images


def _filled(folder: Path, images: Iterable[Path], sizes: DatasetOptions, flip: bool, faults: Faults) -> FilledData:
    """The images in their buckets; reports an error for each image that cannot be read."""
    subset = SubsetOptions(image_dir=folder, flip_aug=flip, place="train_data_dir")
    records = []
    for path in dict.fromkeys(images):
        try:
            size = read_header(path).size
        except Unreadable as fault:
            faults.add(coded("DATA-001", f"image {path}: {fault}; remove or replace it"))
            continue
        records.append(ImageRecord(path.parent, path.name, size, "", subset, 0, path.relative_to(folder).as_posix()))
    if not records:
        faults.raise_if_any("", 0)
    data = fill(Scan(DatasetBlueprint((DatasetSpec(sizes, (subset,)),)), tuple(records), ()))
    for finding in data.findings:
        log.warning(finding)
    return data


def in_open_folders(source: LatentSource, faults: Faults) -> tuple[LatentSource, set[int]]:
    """The source without the latents that cannot be written (folder not writable, name too long), and their numbers.

    Reports an error for each.
    """
    images = {number: source.filled.records[source.works[number].record].path for number in source.missing}
    writable = set(in_writable_folders(images.values(), faults))
    closed = {number for number, image in images.items() if image not in writable}
    for number in sorted(images.keys() - closed):
        file = source.works[number].file
        if file is not None and not fits(file):
            faults.add(coded("PATH-008", f"image {images[number]}: its latents are not written: {too_long(file)}"))
            closed.add(number)
    return replace(source, verdicts={number: verdict for number, verdict in source.verdicts.items() if number not in closed}), closed


def _file_of(folder: Path, recursive: bool) -> Callable[[Path, Size], Path]:
    """Names latents `a.npz` for a.png, as readers of that layout expect; where an a.jpg exists too, each gets a unique name."""
    alike = Counter(path.with_suffix("") for path in list_images(folder, recursive))

    def file_of(image: Path, bucket: Size) -> Path:
        return prepared_file(image) if alike[image.with_suffix("")] < 2 else cache_file(image, bucket)

    twins = sorted({path.name for path in alike if alike[path] > 1})
    if twins:
        log.warning(
            "%s shared by images of different endings (%s): their latents get names that only this suite can read; rename one of each pair "
            "for other programs",
            counted(len(twins), "name"),
            named(twins),
        )
    return file_of


def _write_masks(source: LatentSource) -> None:
    """Add `alpha_mask`, float32 [H,W] in 0…1, to the latents of each file: the opacity of the trained crop."""
    for work in source.works:
        file, record = work.file, source.filled.records[work.record]
        if file is None or not is_file(file) or (binding := read_binding(file)) is None:
            continue
        try:
            write_latents(file, read_arrays(file) | {"alpha_mask": opacity_of(record, work.placement)}, binding)
        except ValueError as fault:
            raise UserError(
                coded("DATA-015", f"train_data_dir: {file}: cannot be read ({fault}); delete the file and start again")
            ) from None
        except OSError as fault:
            raise UserError(coded("DISK-003", f"train_data_dir: {file}: cannot be written ({fault.strerror or fault}); {_ROOM}")) from None


def _write_mirrors(source: LatentSource) -> None:
    """Write `a_flip.npz` next to each `a.npz` that includes a mirror image, for programs that read it from there."""
    for work in source.works:
        file = work.file
        if not work.flip or file is None or file != prepared_file(source.filled.records[work.record].path) or not is_there(file):
            continue
        mirror, binding = mirror_file(file), read_binding(file)
        if not fits(mirror):
            log.warning(
                "a mirror image in a separate file: %s, for other programs; this suite reads it from %s", too_long(mirror), file.name
            )
        elif binding is not None and (not is_file(mirror) or mirror.stat().st_mtime_ns < file.stat().st_mtime_ns):
            size = source.filled.records[work.record].size
            arrays = moments_arrays(read_latents(file, mirrored=True), None, size, work.placement)
            try:
                write_latents(mirror, arrays, replace(binding, flip=False))
            except OSError as fault:
                raise UserError(
                    coded("DISK-003", f"train_data_dir: {mirror}: cannot be written ({fault.strerror or fault}); {_ROOM}")
                ) from None


def _tell_buckets(data: FilledData, done: Mapping[Path, Size]) -> None:
    """Log how many images each bucket has, and how far the images' aspect ratios are from the bucket's on average."""
    counts = Counter(done.values())
    for number, (size, count) in enumerate(sorted(counts.items())):
        log.info("bucket %d: %d×%d: %s", number, *size, counted(count, "image"))
    errors = [
        abs(record.size[0] / record.size[1] - done[record.path][0] / done[record.path][1]) for record in data.records if record.path in done
    ]
    log.info("mean difference of aspect ratio between images and buckets: %.4f", sum(errors) / max(len(errors), 1))
