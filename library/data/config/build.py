"""Builds a DatasetBlueprint from checked tables: merges levels, reports contradictions and missing folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from library.data.config.blueprint import AS_PREPARED, DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.config.check import INVALID, tables_in
from library.data.config.config_text import read_metadata_table, read_tree
from library.data.config.keys import DATASET, KEYS, OTHER_NAMES, SUBSET_ONLY, NotAccepted, shown
from library.data.config.subset_check import Values, subset_faults, without_images
from library.errors import Problem, UserError, coded
from library.paths.look import real


def read_config(path: Path | str, defaults: Mapping[str, object], forms: frozenset[str]) -> DatasetBlueprint:
    """Read a TOML or JSON dataset config; `defaults` are the command line's values by flag name (None = not set).

    `forms` are the kinds of dataset that the script supports (DREAMBOOTH, METADATA). Paths are relative to the working folder.
    Raises UserError with the syntax error, or with all errors of keys, types, values, contradictions and missing folders.
    """
    from library.data.config.check import check_tree, take_out_foreign_keys

    path = Path(path)
    tree = read_tree(path, "--dataset_config")
    remarks = take_out_foreign_keys(tree, path.name)
    faults = check_tree(tree, path.name)  # invalid values are removed from the tree so that the rest can be checked too
    blueprint, more = build(tree, path.name, defaults, forms)
    if faults or more:
        raise UserError(*faults, *more)
    assert blueprint is not None
    return replace(blueprint, findings=(*remarks, *blueprint.findings))


def build(
    tree: Mapping[str, object], file: str, defaults: Mapping[str, object], forms: frozenset[str]
) -> tuple[DatasetBlueprint | None, list[Problem]]:
    """The blueprint (None if there are errors) and the errors, one line each. Expects a `tree` checked by `check_tree`."""
    base, faults = command_line_values(defaults)
    general = tree.get("general")
    base |= {name: INVALID for name in tree if name in KEYS} | (_converted(general) if isinstance(general, dict) else {})
    findings: list[str] = []
    specs: list[DatasetSpec] = []
    empty: list[Problem] = []  # one line per subset without images
    for number, table in enumerate(tables_in(tree, "datasets")):
        spec = _dataset(table, base, f"{file}: datasets[{number}]", forms, faults, findings, empty)
        specs += [spec] if spec else []
    if specs:
        findings += [f"{line}; it is skipped" for line in empty]
    else:
        faults += empty
    if tree["datasets"] == []:
        faults.append(
            coded("CFG-011", f"{file}: datasets is empty; add [[datasets]] and, below it, [[datasets.subsets]] with image_dir = '…'")
        )
    return (None if faults else DatasetBlueprint(tuple(specs), tuple(findings))), faults


def command_line_values(defaults: Mapping[str, object]) -> tuple[Values, list[Problem]]:
    """The command line's dataset and subset values by config key, and their errors; skips other flags and None."""
    values: Values = {}
    faults: list[Problem] = []
    for flag, value in defaults.items():
        key = KEYS.get(OTHER_NAMES.get(flag, flag))
        if key is None or key.level == SUBSET_ONLY or value is None:
            continue
        try:
            values[key.name] = key.check(value)
        except NotAccepted as fault:
            faults.append(
                coded("OPT-006", f"--{flag} is {shown(value)}; expected {as_flags(str(fault)).replace(f'--{key.name} ', f'--{flag} ')}")
            )
            values[key.name] = INVALID
    return values, faults


def as_flags(line: str) -> str:
    """Rewrite a line whose remedy is for a config file for the command line: 'set keep_tokens = 1' -> 'set --keep_tokens 1'."""
    line = re.sub(r"\b([a-z_]+) = \[([\d.]+), ([\d.]+)\]", r"--\1 \2,\3", line)
    return re.sub(r"\b([a-z_]+) = ", r"--\1 ", line)


def dataset_options(values: Values, place: str, metadata: Sequence[object] = ()) -> tuple[DatasetOptions | None, list[Problem]]:
    """Merged values as DatasetOptions, or None and the contradictions. `place` starts each line ('x.toml: datasets[0]').

    `metadata` are the metadata files of the subsets: if all of them contain sizes and `resolution` is not set, it becomes AS_PREPARED and
    the bucket keys are ignored.
    """
    chosen = {name: value for name, value in values.items() if KEYS[name].level == DATASET}
    prepared = bool(metadata) and all(isinstance(file, Path) and says_sizes(file) for file in metadata)
    if chosen.get("resolution") is None and prepared:
        chosen |= {"resolution": AS_PREPARED, "enable_bucket": True}
        return (None if any(value is INVALID for value in chosen.values()) else DatasetOptions.of(chosen)), []
    if chosen.get("resolution") is None:
        remedy = "add --resolution 512" if place.startswith("--") else "add resolution = 512 under [[datasets]] or [general]"
        return None, [coded("CFG-011", f"{place}: resolution is missing; {remedy}")]
    if any(value is INVALID for value in chosen.values()):
        return None, []
    options = DatasetOptions.of(chosen)
    faults = [line.reworded(f"{place}: {as_flags(line) if place.startswith('--') else line}") for line in _size_faults(options)]
    return (None if faults else options), faults


def says_sizes(file: Path) -> bool:
    """Whether a metadata file has a train_resolution for any image, as prepare_buckets_latents.py writes it."""
    try:
        table, _ = read_metadata_table(file, "metadata file")
    except UserError:  # the scan reports the error
        return False
    return any(isinstance(entry, dict) and entry.get("train_resolution") is not None for entry in table.values())


def idle_keys(options: DatasetOptions, place: str) -> list[str]:
    """A line about bucket keys that are set but have no effect; empty if there are none. `place` as in `dataset_options`."""
    if options.resolution == AS_PREPARED:
        return []
    usual = DatasetOptions(options.resolution)
    keys = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    changed = [key for key in keys if getattr(options, key) != getattr(usual, key)]
    dashes = "--" if place.startswith("--") else ""
    if not options.enable_bucket:
        reason = f"without buckets; set {dashes}enable_bucket{'' if dashes else ' = true'}, or"
    else:
        reason = f"with {dashes}bucket_no_upscale;"
        changed = [key for key in changed if key in keys[:2]] if options.bucket_no_upscale else []
    if not changed:
        return []
    names = " and ".join(dashes + key for key in changed)
    return [f"{place}: {names} has no effect {reason} remove {'it' if len(changed) == 1 else 'them'}"]


def _size_faults(options: DatasetOptions) -> list[Problem]:
    width, height = options.resolution
    low, high, steps = options.min_bucket_reso, options.max_bucket_reso, options.bucket_reso_steps
    if not options.enable_bucket:
        if width % 8 or height % 8:
            best = "×".join(str(max(64, round(side / 64) * 64)) for side in (width, height))
            return [
                coded("OPT-017", f"resolution {width}×{height} is not divisible by 8 (best: by 64); nearest: {best}, or set enable_bucket")
            ]
        return []
    if steps % 8:
        return [coded("OPT-017", f"bucket_reso_steps {steps} is not divisible by 8; the usual values are 64 and 32")]
    if width * height < steps * steps:
        return [
            coded(
                "OPT-017",
                f"resolution {width}×{height} is smaller than one step of bucket_reso_steps {steps}; raise resolution or lower the step",
            )
        ]
    if options.bucket_no_upscale:  # then the limits are unused
        return []
    faults = []
    if low > high:
        faults.append(coded("OPT-017", f"min_bucket_reso {low} is greater than max_bucket_reso {high}; swap or change them"))
    for name, value in (("min_bucket_reso", low), ("max_bucket_reso", high)):
        if value % steps:
            below = value // steps * steps
            near = f"{below} or {below + steps}" if below else f"{steps}, or lower bucket_reso_steps"
            faults.append(coded("OPT-017", f"{name} {value} is not divisible by bucket_reso_steps {steps}; nearest: {near}"))
    if not faults and min(width, height) < low:
        faults.append(
            coded(
                "OPT-017",
                f"min_bucket_reso {low} is greater than a side of resolution {width}×{height}, so oblong images would have no bucket;"
                f" set {_half_of(min(width, height), steps)}",
            )
        )
    if not faults and max(width, height) > high:
        wanted = -(-max(width, height) * 2 // steps) * steps
        faults.append(
            coded(
                "OPT-017", f"max_bucket_reso {high} is smaller than a side of resolution {width}×{height}; set max_bucket_reso = {wanted}"
            )
        )
    return faults


def _half_of(side: int, steps: int) -> str:
    """The bucket keys that make about half of `side` the shortest side of a bucket; with a smaller step where half is less than one step.

    The smaller step divides the given one, so max_bucket_reso stays a multiple of it.
    """
    low = side // 2 // steps * steps
    if low:
        return f"min_bucket_reso = {low}"
    while steps > 8 and steps > side // 4:
        steps = steps // 2 if steps % 16 == 0 else 8
    return f"min_bucket_reso = {max(steps, side // 2 // steps * steps)} and bucket_reso_steps = {steps}"


def _converted(table: Mapping[str, object]) -> Values:
    return {name: value if value is INVALID else KEYS[name].check(value) for name, value in table.items() if name in KEYS}


def _dataset(
    table: Mapping[str, object],
    base: Values,
    place: str,
    forms: frozenset[str],
    faults: list[Problem],
    findings: list[str],
    empty: list[Problem],
) -> DatasetSpec | None:
    values = base | _converted(table)
    tables = tables_in(table, "subsets")
    files = [_converted(one).get("metadata_file") for one in tables]
    options, more = dataset_options(values, place, files)
    faults += more
    findings += idle_keys(options, place) if options else []
    if table.get("subsets") is INVALID:
        return None
    if not tables:
        faults.append(coded("CFG-011", f"{place} has no subsets; add [[datasets.subsets]] with image_dir = '…' below it"))
        return None
    named_here = [_converted(one) for one in tables]
    if len({"metadata_file" in own for own in named_here}) > 1:
        faults.append(
            coded(
                "CFG-010",
                f"{place} mixes subsets with metadata_file ({_numbers(named_here, True)}) and without ({_numbers(named_here, False)});"
                " put the two kinds under two [[datasets]]",
            )
        )
    subsets: list[SubsetOptions] = []
    seen: dict[object, int] = {}
    for number, own in enumerate(named_here):
        name = f"{place}.subsets[{number}]"
        faults += subset_faults(own, values, name, forms)
        if (lacks := without_images(own)) is not None:
            empty.append(coded("DATA-003", f"{name}.image_dir: {lacks}"))
            seen[name] = number
            continue
        subset = _subset(values | own, name)
        if subset is None:
            continue
        same = _identity(subset)
        if same in seen:
            findings.append(f"{name}: ignored, subsets[{seen[same]}] of this dataset already reads the same images; remove it")
        elif subset.num_repeats == 0:
            findings.append(f"{name}: skipped, its num_repeats is 0; set 1 or more to train on it")
        else:
            seen[same] = number
            subsets.append(subset)
    if named_here and not seen and all(own.get("num_repeats", values.get("num_repeats")) == 0 for own in named_here):
        faults.append(coded("DATA-012", f"{place}: all its subsets have num_repeats = 0, so nothing is left; set num_repeats = 1"))
    if subsets and all(subset.is_reg for subset in subsets) and all(own.get("is_reg") is not INVALID for own in named_here):
        faults.append(
            coded("DATA-012", f"{place} has only regularization images (is_reg = true); add a subset with the images to train on")
        )
    return DatasetSpec(options, tuple(subsets)) if options and subsets else None


def _numbers(named_here: list[Values], with_metadata: bool) -> str:
    return ", ".join(f"subsets[{n}]" for n, own in enumerate(named_here) if ("metadata_file" in own) == with_metadata)


def _identity(subset: SubsetOptions) -> tuple[str, ...]:
    return tuple(real(path) for path in (subset.image_dir, subset.metadata_file) if path)


def _subset(values: Values, place: str) -> SubsetOptions | None:
    chosen = {name: value for name, value in values.items() if KEYS[name].level != DATASET}
    return None if any(value is INVALID for value in chosen.values()) else SubsetOptions.of(chosen, place)
