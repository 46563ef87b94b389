"""From checked tables to a DatasetBlueprint: levels merged, contradictions and missing folders told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from library.data.config.blueprint import AS_PREPARED, DREAMBOOTH, METADATA, DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.config.check import FAULTY, tables_in
from library.data.config.config_text import read_metadata_table, read_tree
from library.data.config.keys import DATASET, KEYS, OTHER_NAMES, SUBSET_ONLY, NotAccepted, shown
from library.data.config.nearby_paths import folder_contents, has_images, near_names, other_files
from library.errors import UserError
from library.image_endings import SHOWN
from library.paths.faults import closed_fault
from library.paths.look import exists, is_file, is_folder, real
from library.words import counted, named


def read_config(path: Path | str, defaults: Mapping[str, object], forms: frozenset[str]) -> DatasetBlueprint:
    """Read a TOML or JSON dataset config; `defaults` are the command line's values by flag name (None = not given).

    `forms` are the kinds of dataset that the script takes (DREAMBOOTH, METADATA). Paths are relative to the working folder.
    Raises UserError with every fault found: syntax alone, or all of keys, types, values, contradictions and missing folders.
    """
    from library.data.config.check import check_tree, take_out_foreign_keys

    path = Path(path)
    tree = read_tree(path, "--dataset_config")
    remarks = take_out_foreign_keys(tree, path.name)
    faults = check_tree(tree, path.name)  # faulty values are taken out of the tree, so that the rest can be judged too
    blueprint, more = build(tree, path.name, defaults, forms)
    if faults or more:
        raise UserError(*faults, *more)
    assert blueprint is not None
    return replace(blueprint, findings=(*remarks, *blueprint.findings))


Values = dict[str, object]  # key -> converted value, or FAULTY


def build(
    tree: Mapping[str, object], file: str, defaults: Mapping[str, object], forms: frozenset[str]
) -> tuple[DatasetBlueprint | None, list[str]]:
    """The blueprint (None when there are faults) and the faults, one line each. `tree` has been through check_tree."""
    base, faults = command_line_values(defaults)
    general = tree.get("general")
    base |= {name: FAULTY for name in tree if name in KEYS} | (_converted(general) if isinstance(general, dict) else {})
    findings: list[str] = []
    specs: list[DatasetSpec] = []
    empty: list[str] = []  # a line for each subset without images
    for number, table in enumerate(tables_in(tree, "datasets")):
        spec = _dataset(table, base, f"{file}: datasets[{number}]", forms, faults, findings, empty)
        specs += [spec] if spec else []
    if specs:
        findings += [f"{line}; it is left out" for line in empty]
    else:
        faults += empty
    if tree["datasets"] == []:
        faults.append(f"{file}: datasets is empty; add [[datasets]] and below it [[datasets.subsets]] with image_dir = '…'")
    return (None if faults else DatasetBlueprint(tuple(specs), tuple(findings))), faults


def command_line_values(defaults: Mapping[str, object]) -> tuple[Values, list[str]]:
    """The command line's dataset and subset values by config key, and its faults; what is no data key or None is passed over."""
    values: Values = {}
    faults: list[str] = []
    for flag, value in defaults.items():
        key = KEYS.get(OTHER_NAMES.get(flag, flag))
        if key is None or key.level == SUBSET_ONLY or value is None:
            continue
        try:
            values[key.name] = key.check(value)
        except NotAccepted as fault:
            faults.append(f"--{flag} is {shown(value)}; expected {as_flags(str(fault)).replace(f'--{key.name} ', f'--{flag} ')}")
            values[key.name] = FAULTY
    return values, faults


def as_flags(line: str) -> str:
    """A line whose remedies are written for a file, written for the command line: 'set keep_tokens = 1' -> 'set --keep_tokens 1'."""
    line = re.sub(r"\b([a-z_]+) = \[([\d.]+), ([\d.]+)\]", r"--\1 \2,\3", line)
    return re.sub(r"\b([a-z_]+) = ", r"--\1 ", line)


def dataset_options(values: Values, place: str, metadata: Sequence[object] = ()) -> tuple[DatasetOptions | None, list[str]]:
    """Merged values as DatasetOptions, or None and what contradicts what. `place` begins each line ('x.toml: datasets[0]').

    `metadata` are the metadata files of its subsets: where all of them say sizes and `resolution` is not given, it is AS_PREPARED, and no
    key of buckets matters.
    """
    found = {name: value for name, value in values.items() if KEYS[name].level == DATASET}
    prepared = bool(metadata) and all(isinstance(file, Path) and says_sizes(file) for file in metadata)
    if found.get("resolution") is None and prepared:
        found |= {"resolution": AS_PREPARED, "enable_bucket": True}
        return (None if any(value is FAULTY for value in found.values()) else DatasetOptions.of(found)), []
    if found.get("resolution") is None:
        remedy = "add --resolution 512" if place.startswith("--") else "add resolution = 512 under [[datasets]] or [general]"
        return None, [f"{place}: resolution is missing; {remedy}"]
    if any(value is FAULTY for value in found.values()):
        return None, []
    options = DatasetOptions.of(found)
    faults = [f"{place}: {as_flags(line) if place.startswith('--') else line}" for line in _size_faults(options)]
    return (None if faults else options), faults


def says_sizes(file: Path) -> bool:
    """Whether a metadata file has a train_resolution for any image, as prepare_buckets_latents.py writes it."""
    try:
        table, _ = read_metadata_table(file, "metadata file")
    except UserError:  # the scan tells
        return False
    return any(isinstance(entry, dict) and entry.get("train_resolution") is not None for entry in table.values())


def idle_keys(options: DatasetOptions, place: str) -> list[str]:
    """A line on keys of buckets that were set and do nothing beside the others; `place` as in `dataset_options`."""
    if options.resolution == AS_PREPARED:
        return []
    usual = DatasetOptions(options.resolution)
    keys = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    changed = [key for key in keys if getattr(options, key) != getattr(usual, key)]
    dashes = "--" if place.startswith("--") else ""
    if not options.enable_bucket:
        reason = f"without buckets; set {dashes}enable_bucket{'' if dashes else ' = true'}, or"
    else:
        reason = f"beside {dashes}bucket_no_upscale;"
        changed = [key for key in changed if key in keys[:2]] if options.bucket_no_upscale else []
    if not changed:
        return []
    names = " and ".join(dashes + key for key in changed)
    return [f"{place}: {names} can do nothing {reason} take {'it' if len(changed) == 1 else 'them'} out"]


def _size_faults(options: DatasetOptions) -> list[str]:
    width, height = options.resolution
    low, high, steps = options.min_bucket_reso, options.max_bucket_reso, options.bucket_reso_steps
    if not options.enable_bucket:
        if width % 8 or height % 8:
            best = "×".join(str(max(64, round(side / 64) * 64)) for side in (width, height))
            return [f"resolution {width}×{height} is not divisible by 8 (best: by 64); nearest: {best}, or set enable_bucket"]
        return []
    if steps % 8:
        return [f"bucket_reso_steps {steps} is not divisible by 8; the usual values are 64 and 32"]
    if width * height < steps * steps:
        return [f"resolution {width}×{height} is smaller than one step of bucket_reso_steps {steps}; raise resolution or lower the steps"]
    if options.bucket_no_upscale:  # the limits are not used then
        return []
    faults = []
    if low > high:
        faults.append(f"min_bucket_reso {low} is greater than max_bucket_reso {high}; exchange or change them")
    for name, value in (("min_bucket_reso", low), ("max_bucket_reso", high)):
        if value % steps:
            below = value // steps * steps
            near = f"{below} or {below + steps}" if below else str(steps)
            faults.append(f"{name} {value} is not divisible by bucket_reso_steps {steps}; nearest: {near}")
    if not faults and min(width, height) < low:
        faults.append(
            f"min_bucket_reso {low} is greater than a side of resolution {width}×{height}, so oblong images had no bucket;"
            f" set min_bucket_reso = {max(steps, min(width, height) // 2 // steps * steps)}"
        )
    if not faults and max(width, height) > high:
        wanted = -(-max(width, height) * 2 // steps) * steps
        faults.append(f"max_bucket_reso {high} is smaller than a side of resolution {width}×{height}; set max_bucket_reso = {wanted}")
    return faults


def _converted(table: Mapping[str, object]) -> Values:
    return {name: value if value is FAULTY else KEYS[name].check(value) for name, value in table.items() if name in KEYS}


def _dataset(
    table: Mapping[str, object],
    base: Values,
    place: str,
    forms: frozenset[str],
    faults: list[str],
    findings: list[str],
    empty: list[str],
) -> DatasetSpec | None:
    values = base | _converted(table)
    tables = tables_in(table, "subsets")
    files = [_converted(one).get("metadata_file") for one in tables]
    options, more = dataset_options(values, place, files)
    faults += more
    findings += idle_keys(options, place) if options else []
    if table.get("subsets") is FAULTY:
        return None
    if not tables:
        faults.append(f"{place} has no subsets; add [[datasets.subsets]] with image_dir = '…' below it")
        return None
    named_here = [_converted(one) for one in tables]
    if len({"metadata_file" in own for own in named_here}) > 1:
        faults.append(
            f"{place} mixes subsets with metadata_file ({_numbers(named_here, True)}) and without ({_numbers(named_here, False)});"
            " put the two kinds under two [[datasets]]"
        )
    subsets: list[SubsetOptions] = []
    seen: dict[object, int] = {}
    for number, own in enumerate(named_here):
        name = f"{place}.subsets[{number}]"
        faults += subset_faults(own, values, name, forms)
        if (lacks := _without_images(own)) is not None:
            empty.append(f"{name}.image_dir: {lacks}")
            seen[name] = number
            continue
        subset = _subset(values | own, name)
        if subset is None:
            continue
        same = _identity(subset)
        if same in seen:
            findings.append(f"{name}: ignored, subsets[{seen[same]}] of this dataset reads the same images already; take it out")
        elif subset.num_repeats == 0:
            findings.append(f"{name}: left out, its num_repeats is 0; set 1 or more to train on it")
        else:
            seen[same] = number
            subsets.append(subset)
    if named_here and not seen and all(own.get("num_repeats", values.get("num_repeats")) == 0 for own in named_here):
        faults.append(f"{place}: all its subsets have num_repeats = 0, so nothing is left; set num_repeats = 1")
    if subsets and all(subset.is_reg for subset in subsets) and all(own.get("is_reg") is not FAULTY for own in named_here):
        faults.append(f"{place} holds only regularization images (is_reg = true); add a subset with the images to train on")
    return DatasetSpec(options, tuple(subsets)) if options and subsets else None


def _numbers(named_here: list[Values], with_metadata: bool) -> str:
    return ", ".join(f"subsets[{n}]" for n, own in enumerate(named_here) if ("metadata_file" in own) == with_metadata)


def _identity(subset: SubsetOptions) -> tuple[str, ...]:
    return tuple(real(path) for path in (subset.image_dir, subset.metadata_file) if path)


def _subset(values: Values, place: str) -> SubsetOptions | None:
    found = {name: value for name, value in values.items() if KEYS[name].level != DATASET}
    return None if any(value is FAULTY for value in found.values()) else SubsetOptions.of(found, place)


def subset_faults(own: Values, inherited: Values, place: str, forms: frozenset[str]) -> list[str]:
    """What is wrong with one subset's own table: form, contradictions, folder. `own` are the keys in it, `inherited` those above."""
    form = METADATA if "metadata_file" in own else DREAMBOOTH
    faults = []
    if form not in forms:
        faults.append(
            f"{place}.metadata_file: this script trains from image folders with caption files or class_tokens only; for a metadata file use"
            " fine_tune.py or train_network.py"
            if form == METADATA
            else f"{place} has no metadata_file, and this script trains from metadata files only; add metadata_file = '….json',"
            " or use train_db.py or train_network.py for image folders"
        )
    if form == METADATA:
        for key in ("is_reg", "class_tokens", "caption_extension"):
            if own.get(key) not in (None, "", False, FAULTY):
                reason = "regularization images are of the DreamBooth form" if key == "is_reg" else "captions come from the metadata file"
                faults.append(f"{place}.{key} contradicts metadata_file: {reason}; remove one of the two")
        closed = isinstance(own["metadata_file"], Path) and closed_fault(own["metadata_file"], folder=False)
        if closed:
            faults.append(f"{place}.metadata_file: {closed}")
        elif isinstance(own["metadata_file"], Path) and not is_file(own["metadata_file"]):
            wrong = "is a folder" if is_folder(own["metadata_file"]) else "does not exist"
            faults.append(f"{place}.metadata_file: '{own['metadata_file']}' {wrong}{near_names(own['metadata_file'])}")
    elif (own | inherited).get("image_dir") is None:
        faults.append(f"{place}.image_dir is missing; add image_dir = '…' with the folder of the images")
    masks = own.get("conditioning_data_dir")
    if isinstance(masks, Path) and (closed := closed_fault(masks, folder=True)):
        faults.append(f"{place}.conditioning_data_dir: {closed}")
    elif isinstance(masks, Path) and not is_folder(masks):
        wrong = "is a file; name the folder it lies in" if exists(masks) else f"does not exist{near_names(masks)}"
        faults.append(f"{place}.conditioning_data_dir: '{masks}' {wrong}")
    folder = own.get("image_dir")
    if isinstance(folder, Path):
        faults += [f"{place}.image_dir: {line}" for line in _folder_faults(folder)]
    return faults


def _folder_faults(folder: Path) -> list[str]:
    if closed := closed_fault(folder, folder=True):
        return [closed]
    if not exists(folder):
        relative = "" if folder.is_absolute() else f" (relative to {Path.cwd()})"
        return [f"'{folder}' does not exist{relative}{near_names(folder)}"]
    if not is_folder(folder):
        return [f"'{folder}' is a file; name the folder it lies in"]
    return []


def _without_images(own: Values) -> str | None:
    """What a subset's folder holds instead of images; None where it has some, cannot be read, or is that of a metadata file."""
    folder = own.get("image_dir")
    if not isinstance(folder, Path) or "metadata_file" in own or not is_folder(folder):
        return None
    if closed_fault(folder, folder=True) or has_images(folder):
        return None
    below = {name: count for name, count in folder_contents(folder)[1].items() if count}
    if below:
        listed = named([f"'{name}' ({counted(count, 'image')})" for name, count in below.items()])
        return f"'{folder}' holds no images itself, but its folders do: {listed}; give each as a subset of its own"
    return f"'{folder}' holds no images ({SHOWN}): {other_files(folder)}"
