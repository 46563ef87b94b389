"""Which latents of a run lie in files that may be used, and why the others have to be made: hashes, stamps and sizes, no pixels."""

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
_OLD_LEFT_OVER = re.compile(r"\..+\.npz\.[0-9a-f]{8}\.tmp")  # of older versions, which do not tell their process
_AGE = 60.0  # seconds after which such a file has no writer any more


@dataclass(frozen=True)
class CacheRules:
    """What a file has to fit. `vae` is the fingerprint of the encoder and `precision` what it computes in (float32, float16, bfloat16);
    `distribution` says whether the deviation is wanted beside the mean, `file_of` where the latents of an image of a bucket are kept
    (None: in memory)."""

    vae: str = ""
    precision: str = "float32"
    distribution: bool = True
    file_of: Callable[[Path, Size], Path] | None = None


@dataclass(frozen=True)
class Work:
    """One image at one size, however many records show it: what is encoded once. `file` is where its latents go, None for memory."""

    record: int  # the first that shows it
    placement: Placement
    flip: bool
    prepared: bool  # its metadata says that latents of this size were made beforehand
    file: Path | None


@dataclass(frozen=True)
class Kept:
    """Latents in a file that may be used. `bound` is False where nothing tells which VAE they were made with."""

    file: Path
    mirrored: bool
    bound: bool
    prepared: bool = False  # by prepare_buckets_latents.py or another program


@dataclass
class Folders:
    """What lies in the folders of the images, each listed once."""

    _found: dict[Path, _Folder] = field(default_factory=dict)

    def of(self, path: Path) -> _Folder:
        """The folder that holds `path`."""
        if path.parent not in self._found:
            names = names_in(path.parent)
            stems = Counter(os.path.normcase(Path(name).stem) for name in names if names_image(name))
            sized = frozenset(image.name for name in names if (image := image_of(Path(name))))
            self._found[path.parent] = _Folder(frozenset(names), stems, sized)
        return self._found[path.parent]

    def clear_left_overs(self) -> None:
        """Remove what a process that was killed while it wrote has left in the folders seen so far."""
        for folder, found in self._found.items():
            old = [name for name in found.names if _OLD_LEFT_OVER.fullmatch(name)]
            for name in old:
                with contextlib.suppress(OSError):
                    if time.time() - (folder / name).stat().st_mtime > _AGE:
                        (folder / name).unlink()
            if any(name.startswith(".") for name in found.names):
                tidy(folder)


@dataclass(frozen=True)
class _Folder:
    names: frozenset[str]
    stems: Mapping[str, int]  # images of one stem, as os.path.normcase has it
    sized: frozenset[str]  # names of images that have a cache file, whatever its size


def works_of(filled: FilledData, rules: CacheRules) -> tuple[list[Work], list[int]]:
    """What has to be encoded at most, and for each record the index of its work."""
    works: list[Work] = []
    of_record: list[int] = []
    known: dict[tuple[str, Placement, str], int] = {}
    files: set[Path] = set()
    for index, (record, placement) in enumerate(zip(filled.records, filled.placements, strict=True)):
        key = (os.path.normcase(record.path), placement, interpolation_of(record))
        if key not in known:
            known[key] = len(works)
            file = rules.file_of(record.path, placement.bucket) if rules.file_of and is_image(record.path) else None
            # Two crops of one image to one size, or two ways to scale it: the second one stays in memory.
            works.append(Work(index, placement, False, False, None if file in files else file))
            files |= {file} if file else set()
        work = works[known[key]]
        prepared = work.prepared or record.train_resolution == placement.bucket
        works[known[key]] = replace(work, flip=work.flip or record.subset.flip_aug, prepared=prepared)
        of_record.append(known[key])
    return works, of_record


def judge(work: Work, record: ImageRecord, rules: CacheRules, folders: Folders) -> Kept | str:
    """The file with the latents of `work`, or why they have to be made."""
    folder = folders.of(record.path)
    reason = NEW
    alone = folder.stems.get(os.path.normcase(record.path.stem), 0) <= 1
    if work.file is not None or (work.prepared and not alone):  # of a.png and a.jpg those made beforehand are called so too
        own = work.file or cache_file(record.path, work.placement.bucket)
        if own.name in folder.names:
            found = _bound(own, work, record, rules, exact=work.file is not None)
            if isinstance(found, Kept):
                return replace(found, prepared=work.file is None)
            reason = found
        elif record.path.name in folder.sized:
            reason = OTHER_CROP
    beside = prepared_file(record.path)
    if (rules.file_of or work.prepared) and beside.name in folder.names and alone:
        found = _prepared(beside, work, record, rules)
        if isinstance(found, Kept):
            return found
        reason = found if reason == NEW else reason
    return reason


def interpolation_of(record: ImageRecord) -> str:
    """What the latents of an image are bound to by resize_interpolation: one name for each way to scale, "" for the usual one."""
    way = record.subset.resize_interpolation or ""
    return way.removeprefix("bi")


def _prepared(file: Path, work: Work, record: ImageRecord, rules: CacheRules) -> Kept | str:
    try:
        if read_binding(file) is not None:
            found = _bound(file, work, record, rules, exact=not work.prepared)
            return replace(found, prepared=True) if isinstance(found, Kept) else found
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
    """Whether a file of ours fits; `exact` compares crop and precision too, which else were chosen when the file was made."""
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
    if binding.pixels != Binding.pixels and file != record.path:  # of an image that is gone they are all there is
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
    """Why the file is not of the image as it is now. The image is read only where its size or times are not those remembered."""
    try:
        stat = stat_of(image)
        if binding.stat == stat:
            return None
        if sha256(image) != binding.image:
            return CHANGED
    except OSError:
        return CHANGED  # encoding it will tell
    known = reliable(stat)
    if known is None:
        return None
    try:
        write_latents(file, read_arrays(file), replace(binding, stat=known))  # so that the next start need not hash it
    except OSError:
        return None  # a folder that cannot be written to: the next start hashes it again
    except ValueError:
        return DAMAGED
    return None


def tell(verdicts: Iterable[Kept | str]) -> None:
    """One line on what is used and what is made and why, and one on files whose origin nobody knows."""
    verdicts = list(verdicts)
    reasons = Counter(verdict for verdict in verdicts if isinstance(verdict, str))
    kept = [verdict for verdict in verdicts if isinstance(verdict, Kept)]
    fresh = reasons.pop(NEW, 0)
    parts = [f"{len(kept)} of {len(verdicts)} cached on disk"]
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        parts.append(f"encoding {reasons.total()} again: {listed}")
    if fresh:
        parts.append(f"encoding {fresh} new")
    log.info("latents: %s", "; ".join(parts))
    foreign = sum(not one.bound for one in kept)
    if foreign:
        log.info(
            "latents: %d are from another program: one mean or sample each, the same in every epoch; their VAE and crop are "
            "unknown (to encode them again, delete those .npz files)",
            foreign,
        )


def remove_files(filled: FilledData) -> int:
    """Delete every cache file of the run's images, of whatever size; how many there were. Files of other programs stay."""
    count = 0
    images = {record.path for record in filled.records}
    for folder in {image.parent for image in images}:
        for file in folder.iterdir():
            image = image_of(file)
            if image in images:
                file.unlink()
                count += 1
    return count
