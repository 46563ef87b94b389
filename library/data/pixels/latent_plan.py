"""Decides which cached latents a run can use, and why others have to be encoded again; reads hashes, times and sizes, no pixels."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from library.console import log
from library.containers.arrays_file import read_arrays
from library.data.batching.buckets import FilledData, Placement
from library.data.config.blueprint import Size
from library.data.pixels.images import BACKGROUND
from library.data.pixels.latent_files import Binding, cache_file, image_of, read_binding, reliable, stat_of, write_latents
from library.data.scan.latent_headers import prepared_file, read_foreign
from library.data.scan.records import ImageRecord
from library.files import is_image, names_image, sha256, tidy
from library.paths.listing import names_in

NEW, CHANGED, OTHER_VAE, OTHER_CROP = "new", "with a changed image", "for another VAE", "in another size or crop"
OTHER_PRECISION, NO_MIRROR, MEAN_ONLY = "in another precision", "without mirror image", "without deviation"
DAMAGED, OLDER = "damaged", "older than the image"
OTHER_READING = "from an older version, which read images in other colours"
_OLD_LEFT_OVER = re.compile(r"\..+\.npz\.[0-9a-f]{8}\.tmp")  # of older versions, which did not record their process
_AGE = 60.0  # seconds after which no process can still be writing such a file


@dataclass(frozen=True)
class CacheRules:
    """What a cached file has to match.

    `vae` is the fingerprint of the encoder, `precision` its dtype (float32, float16, bfloat16), `distribution` whether the log variance is
    needed too, `file_of` the cache file of an image in a bucket (None: cached in memory).
    """

    vae: str = ""
    precision: str = "float32"
    distribution: bool = True
    file_of: Callable[[Path, Size], Path] | None = None


@dataclass(frozen=True)
class Work:
    """One image at one size, encoded once for all records that show it. `file` is its cache file, None for memory."""

    record: int  # the first record that shows it
    placement: Placement
    flip: bool
    prepared: bool  # its metadata has this size as train_resolution, so latents may have been prepared
    file: Path | None


@dataclass(frozen=True)
class Kept:
    """Usable latents in a file. `bound` is False if their VAE is unknown."""

    file: Path
    mirrored: bool
    bound: bool
    prepared: bool = False  # from prepare_buckets_latents.py or another program


@dataclass
class Folders:
    """Contents of the image folders; each folder is listed once."""

    _listed: dict[Path, _Folder] = field(default_factory=dict)

    def of(self, path: Path) -> _Folder:
        """The folder of `path`."""
        if path.parent not in self._listed:
            names = names_in(path.parent)
            stems = Counter(os.path.normcase(Path(name).stem) for name in names if names_image(name))
            sized = frozenset(image.name for name in names if (image := image_of(Path(name))))
            self._listed[path.parent] = _Folder(frozenset(names), stems, sized)
        return self._listed[path.parent]

    def clear_left_overs(self) -> None:
        """Remove temporary files of interrupted processes from the folders listed so far."""
        for folder, content in self._listed.items():
            old = [name for name in content.names if _OLD_LEFT_OVER.fullmatch(name)]
            for name in old:
                with contextlib.suppress(OSError):
                    if time.time() - (folder / name).stat().st_mtime > _AGE:
                        (folder / name).unlink()
            if any(name.startswith(".") for name in content.names):
                tidy(folder)


@dataclass(frozen=True)
class _Folder:
    names: frozenset[str]
    stems: Mapping[str, int]  # number of images per stem, normalized by os.path.normcase
    sized: frozenset[str]  # names of images that have a cache file of any size


def works_of(filled: FilledData, rules: CacheRules) -> tuple[list[Work], list[int]]:
    """All works that may have to be encoded, and for each record the index of its work."""
    works: list[Work] = []
    of_record: list[int] = []
    known: dict[tuple[str, Placement, str], int] = {}
    files: set[Path] = set()
    for index, (record, placement) in enumerate(zip(filled.records, filled.placements, strict=True)):
        key = (os.path.normcase(record.path), placement, interpolation_of(record))
        if key not in known:
            known[key] = len(works)
            file = rules.file_of(record.path, placement.bucket) if rules.file_of and is_image(record.path) else None
            # Two crops of one image at the same size, or two interpolations: the second one stays in memory.
            works.append(Work(index, placement, False, False, None if file in files else file))
            files |= {file} if file else set()
        work = works[known[key]]
        prepared = work.prepared or record.train_resolution == placement.bucket
        works[known[key]] = replace(work, flip=work.flip or record.subset.flip_aug, prepared=prepared)
        of_record.append(known[key])
    return works, of_record


def judge(work: Work, record: ImageRecord, rules: CacheRules, folders: Folders) -> Kept | str:
    """The usable file with the latents of `work`, or why they have to be encoded."""
    folder = folders.of(record.path)
    reason = NEW
    alone = folder.stems.get(os.path.normcase(record.path.stem), 0) <= 1
    if work.file is not None or (work.prepared and not alone):  # a.png and a.jpg use this name for prepared latents too
        own = work.file or cache_file(record.path, work.placement.bucket)
        if own.name in folder.names:
            verdict = _bound(own, work, record, rules, exact=work.file is not None)
            if isinstance(verdict, Kept):
                return replace(verdict, prepared=work.file is None)
            reason = verdict
        elif record.path.name in folder.sized:
            reason = OTHER_CROP
    beside = prepared_file(record.path)
    if (rules.file_of or work.prepared) and beside.name in folder.names and alone:
        verdict = _prepared(beside, work, record, rules)
        if isinstance(verdict, Kept):
            return verdict
        reason = verdict if reason == NEW else reason
    return reason


def interpolation_of(record: ImageRecord) -> str:
    """The name of resize_interpolation in a binding: synonyms map to one name, "" is the default."""
    way = record.subset.resize_interpolation or ""
    return way.removeprefix("bi")


def _prepared(file: Path, work: Work, record: ImageRecord, rules: CacheRules) -> Kept | str:
    try:
        if read_binding(file) is not None:
            verdict = _bound(file, work, record, rules, exact=not work.prepared)
            return replace(verdict, prepared=True) if isinstance(verdict, Kept) else verdict
        foreign = read_foreign(file)
    except (OSError, ValueError):
        return DAMAGED
    if foreign.size != work.placement.bucket or (foreign.image or record.size) != record.size:
        return OTHER_CROP
    if work.flip and not foreign.mirrored:
        return NO_MIRROR
    if file != record.path and file.stat().st_mtime < record.path.stat().st_mtime:
        return OLDER
    return Kept(file, foreign.mirrored, bound=False, prepared=True)


def _bound(file: Path, work: Work, record: ImageRecord, rules: CacheRules, exact: bool) -> Kept | str:
    """Check a file written by us; `exact` also compares crop and precision, which prepared files choose themselves."""
    try:
        binding = read_binding(file)
    except (OSError, ValueError):
        return DAMAGED
    if binding is None:
        return DAMAGED
    recipe = (work.placement.bucket, work.placement.resized, BACKGROUND, interpolation_of(record))
    said = (binding.bucket, binding.resized, binding.background, binding.interpolation)
    if (said != recipe) if exact else (said[0] != recipe[0]):
        return OTHER_CROP
    if binding.pixels != Binding.pixels and file != record.path:  # latents without an image cannot be encoded again
        return OTHER_READING
    if binding.vae != rules.vae:
        return OTHER_VAE
    if exact and binding.precision != rules.precision:
        return OTHER_PRECISION
    if work.flip and not binding.flip:
        return NO_MIRROR
    if rules.distribution and not binding.distribution:
        return MEAN_ONLY
    fault = None if file == record.path else _image_fault(file, record.path, binding)
    return fault or Kept(file, binding.flip, bound=True)


def _image_fault(file: Path, image: Path, binding: Binding) -> str | None:
    """Why the file does not match the current image, None if it does. Hashes the image only if its size or times have changed."""
    try:
        stat = stat_of(image)
        if binding.stat == stat:
            return None
        if sha256(image) != binding.image:
            return CHANGED
    except OSError:
        return CHANGED  # encoding it reports the error
    known = reliable(stat)
    if known is None:
        return None
    try:
        write_latents(file, read_arrays(file), replace(binding, stat=known))  # so that the next start does not have to hash it
    except OSError:
        return None  # read-only folder: the next start hashes the image again
    except ValueError:
        return DAMAGED
    return None


def tell(verdicts: Iterable[Kept | str]) -> None:
    """Log how many latents are cached or encoded and why, and how many come from other programs."""
    verdicts = list(verdicts)
    reasons = Counter(verdict for verdict in verdicts if isinstance(verdict, str))
    usable = [verdict for verdict in verdicts if isinstance(verdict, Kept)]
    fresh = reasons.pop(NEW, 0)
    parts = [f"{len(usable)} of {len(verdicts)} cached on disk"]
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        parts.append(f"encoding {reasons.total()} again: {listed}")
    if fresh:
        parts.append(f"encoding {fresh} new")
    log.info("latents: %s", "; ".join(parts))
    foreign = sum(not one.bound for one in usable)
    if foreign:
        log.info(
            "latents: %d are from another program: one mean or sample each, the same in every epoch; their VAE and crop are "
            "unknown (to encode them again, delete those .npz files)",
            foreign,
        )


def remove_files(filled: FilledData) -> int:
    """Delete the cache files of the run's images, of all sizes, and return their number. Files of other programs are kept."""
    count = 0
    images = {record.path for record in filled.records}
    for folder in {image.parent for image in images}:
        for file in folder.iterdir():
            image = image_of(file)
            if image in images:
                file.unlink()
                count += 1
    return count
