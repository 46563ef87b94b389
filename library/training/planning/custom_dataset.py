"""--dataset_class in a run: imports and creates the class, checks its first batch, and uses its batches in place of images."""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import DatasetFigures, FilledData, Placement
from library.data.batching.showings import Bucket
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.config.keys import resolution
from library.data.scan.records import ImageRecord
from library.errors import Problem, UserError, coded, named_line
from library.options.groups.scripts import TrainingScript
from library.options.reading.named_class import did_you_mean, import_class
from library.options.rules.custom_dataset_rules import NO_CLASS, names_class
from library.paths.listing import matching
from library.paths.look import exists, is_file
from library.paths.opening import read_bytes
from library.seeds import fold
from library.training.planning.plan import RunPlan
from library.words import counted

if TYPE_CHECKING:
    from library.data.loading.custom_batches import CustomBatchDataset, CustomSource
    from library.data.loading.dataset import Tokenize
    from library.data.pixels.latent_cache import LatentCache

OPTION = "--dataset_class"


@dataclass(frozen=True)
class FirstBatch:
    """What the first batch of a class shows about all of them."""

    images: int
    size: tuple[int, int]  # (width, height) in pixels; other batches may differ
    are_latents: bool  # the same for all batches
    captions: tuple[str, ...]  # as written
    notes: tuple[str, ...]
    hints: tuple[str, ...]  # what is allowed but looks like a mistake


@dataclass(frozen=True)
class CaptionRules:
    """What the options require of the captions of a class."""

    windows: int
    reread: str  # the option that makes ids from captions even where the class provides ids
    are_made: bool  # from templates


@dataclass(frozen=True)
class CustomDataset:
    """The object of a class, and what its first batch shows."""

    source: CustomSource
    batches: int  # per epoch
    first: FirstBatch
    rules: CaptionRules
    code_hash: str | None  # SHA-256 of the source file of the class
    unit = "batches"
    captions_are_whole = False
    ids_follow_captions = False  # the class may provide ids that do not match its captions

    @property
    def are_latents(self) -> bool:
        """Whether the batches have latents; otherwise they have images."""
        return self.first.are_latents

    @property
    def name(self) -> str:
        """module.Class."""
        return self.source.name

    def filled(self) -> FilledData:
        """What the sampler shuffles and distributes: each batch is one record, in batches of one."""
        subset = SubsetOptions(place=f"{OPTION} {self.name}")
        blueprint = DatasetBlueprint((DatasetSpec(DatasetOptions(self.first.size, 1), (subset,)),))
        size = self.first.size
        names = ((index, f"{self.name}[{index}]") for index in range(self.batches))
        records = tuple(ImageRecord(Path(), name, size, "", subset, 0, f"batch {index}") for index, name in names)
        bucket = Bucket(0, size, tuple((index, 1) for index in range(self.batches)))
        figures = DatasetFigures(self.batches, self.batches, 0, 0, 0, 1, ((size, self.batches),))
        places = (Placement(size, size),) * self.batches
        return FilledData(blueprint, records, places, (bucket,), 1.0, (figures,), self.first.hints)

    def lines(self, processes: int) -> list[str]:
        """What is known about it, as lines for the user."""
        kind = "latents" if self.first.are_latents else "images"
        width, height = self.first.size
        of_first = f"the first has {kind} of {counted(self.first.images, 'image')}, {width}×{height}"
        return [
            f"{OPTION} {self.name}: {counted(self.batches, 'batch', 'batches')} per epoch in shuffled order; {of_first}",
            "    the others are not known in advance: memory is estimated from the size of the first",
            *(f"    {note}" for note in self.first.notes),
        ]

    def captions(self) -> tuple[str, ...]:
        """The captions of the first batch, if it has any."""
        return self.first.captions

    def trained_captions(self) -> list[tuple[str, str]]:
        """(batch, caption) of the first batch."""
        return [(self.source.place(0), caption) for caption in self.first.captions]

    def largest(self) -> tuple[tuple[int, int], int]:
        """Size and images of the first batch."""
        return self.first.size, self.first.images

    def rows(self) -> None:
        """None: the class decides on its batches."""

    def files(self) -> tuple[Path, ...]:
        """None are known."""
        return ()

    def cacheable(self) -> None:
        """None: the batches of a class are not cached."""

    def dataset(
        self, seed: int, tokenizer: Tokenize, scale: float, rewrite: RewriteCaption, plan: RunPlan, cache: LatentCache | None = None
    ) -> CustomBatchDataset:
        """The batches for the loader."""
        from library.data.loading.custom_batches import CaptionReading, CustomBatchDataset, CustomSource

        source = CustomSource(self.name, self.source.dataset, self.source.file)  # a new one, which has not started an epoch
        captions = CaptionReading(tokenizer, self.rules.windows, rewrite, self.rules.reread, self.rules.are_made)
        return CustomBatchDataset(source, seed, captions, self.first.are_latents, scale)

    def check_loading(self, workers: int, gather: Callable[[list[int]], list[int]]) -> None:
        """Raise UserError if the object cannot be sent to `workers`, or has another length in another process."""
        self.check_can_be_sent(workers)
        self.check_agrees(gather([self.batches]))

    def check_can_be_sent(self, workers: int, start_method: str | None = None) -> None:
        """Raise UserError if `workers` start as new processes and the object cannot be pickled."""
        if not workers or (start_method or multiprocessing.get_start_method()) == "fork":
            return
        try:
            pickle.Pickler(_Nowhere()).dump(self.source.dataset)
        except Exception as error:  # pickle raises errors of many types, and the class may raise any
            raise UserError(
                coded(
                    "DATA-023",
                    f"{OPTION} {self.name}: cannot be sent to loader workers ({error}); open files in __getitem__, not in the "
                    "constructor, or set --max_data_loader_n_workers 0",
                )
            ) from error

    def check_agrees(self, lengths: list[int]) -> None:
        """Raise UserError if the objects of the processes differ in length."""
        if len(set(lengths)) > 1:
            raise UserError(
                coded(
                    "DATA-023",
                    f"{OPTION} {self.name}: has {' and '.join(map(str, lengths))} batches in different processes; return the same number",
                )
            )

    def faults(self, most: int = 20) -> Iterator[Problem]:
        """What is wrong with the batches, requested in the order of the first epoch; ends after `most` invalid ones."""
        from library.data.loading.custom_check import checked

        faults = 0
        for index in range(self.batches):
            try:
                item = checked(_first_look(self.source, index), self.source.place(index), self.rules.windows, not self.rules.are_made)
                if item.are_latents != self.first.are_latents:
                    kind = "latents" if self.first.are_latents else "images"
                    yield coded("DATA-022", f"{self.source.place(index)}: differs from the first batch, which has {kind}")
                    faults += 1
            except UserError as fault:
                yield from fault.problems
                faults += 1
            if faults == most:
                faulty = counted(faults, "batch", "batches")
                yield coded("DATA-022", f"{OPTION} {self.name}: {faulty} of the first {index + 1} are invalid; the rest is not checked")
                return

    def metadata(self, processes: int) -> dict[str, Any]:
        """The `ss_*` keys of the data; sizes are those of the first batch."""
        return {
            "ss_dataset_class": self.name,
            "ss_dataset_class_hash": self.code_hash,
            "ss_batch_size_per_device": self.first.images,
            "ss_total_batch_size": self.first.images * processes,
            "ss_resolution": str(self.first.size),
        }

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the class."""
        return {"dataset_class": self.name, "dataset_class_sha256": self.code_hash, "batches": self.batches}


def open_custom(options: TrainingScript) -> CustomDataset:
    """Import and create the class that `--dataset_class` names, and check its first batch.

    Raises UserError for a class that is missing, fails, or returns what cannot be trained.
    """
    name, model, word = options.data.dataset_class, options.model, options.new_words
    assert name is not None
    kind = class_of(name)
    from library.data.loading.custom_batches import CustomSource, as_user_fault
    from library.data.loading.custom_check import checked
    from library.model.family import family_of_flag
    from library.model.text.tokenizer import WINDOW, ClipTokenizer

    tokenizer = ClipTokenizer(family_of_flag(model.v2), model.max_token_length, cache_dir=model.tokenizer_cache_dir)
    size = None if options.data.resolution is None else resolution(options.data.resolution)
    arguments = (tokenizer.tokenizer, model.max_token_length, size, options.data.debug_dataset)
    _check_form(kind, name, arguments)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    source = CustomSource(name, as_user_fault(lambda: kind(*arguments), f"{OPTION} {name}: its constructor", file), file)
    batches = source.call(lambda: len(source.dataset), f"{OPTION} {name}: len()")
    if batches < 1:
        raise UserError(coded("DATA-022", f"{OPTION} {name}: has no batches (its length is 0), so there is nothing to train"))
    reread = "--token_string" if word and word.words else "--weighted_captions" if options.data.weighted_captions else ""
    rules = CaptionRules((model.max_token_length or WINDOW) // WINDOW, reread, word is not None and word.makes_captions)
    first = checked(_first_look(source, 0), source.place(0), rules.windows, not rules.are_made)
    notes = []
    if first.unused:
        notes.append(f"keys of the class that are not used: {', '.join(first.unused)}")
    if first.input_ids is not None and reread:
        notes.append(f"input_ids are made from the captions because of {reread}; those of the class are not used")
    hints = tuple(f"{source.place(0)}: {hint}" for hint in first.hints)
    first_batch = FirstBatch(len(first), first.size, first.are_latents, first.captions or (), tuple(notes), hints)
    code = None if file is None or not is_file(Path(file)) else hashlib.sha256(read_bytes(Path(file))).hexdigest()
    return CustomDataset(source, batches, first_batch, rules, code)


def class_of(name: str) -> type:
    """The class `module.Class`, of a module in the current folder or an installed one. Raises UserError for what is missing or fails."""
    if not names_class(name):
        raise UserError(coded("DATA-020", f"{OPTION}: {NO_CLASS}, not {name!r}"))
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.append(str(here))  # last, so that no file of the user replaces a package
    module = name.rpartition(".")[0]
    root = module.partition(".")[0]
    imported = sys.modules.get(root) or find_spec(root)
    own = next((path for path in (here / f"{root}.py", here / root / "__init__.py") if is_file(path)), None)
    if imported is None:
        beside = sorted({path.stem for path in matching(here, "*.py")} | {path.parent.name for path in matching(here, "*/__init__.py")})
        raise UserError(
            coded(
                "DATA-020",
                f"{OPTION} {name}: module {root} is not in the current folder ({here}) and not installed{did_you_mean(root, beside)}",
            )
        )
    origin = getattr(imported, "origin", None) or getattr(imported, "__file__", None)
    if own is not None and not (origin and exists(Path(origin)) and own.samefile(origin)):
        raise UserError(
            coded("DATA-020", f"{OPTION} {name}: {root} is another module, {origin or 'a part of Python'}; rename your {own.name}")
        )
    try:
        return import_class(OPTION, name)
    except UserError:
        raise
    except Exception as error:  # the user's code may raise any error
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(coded("DATA-021", f"{OPTION} {name}: {module} cannot be imported: {named_line(error)}{line}")) from error


def _check_form(kind: type, name: str, arguments: tuple[Any, ...]) -> None:
    lacking = [method for method in ("__len__", "__getitem__") if not callable(getattr(kind, method, None))]
    if lacking:
        what = {"__len__": "the number of its batches", "__getitem__": "batch i as a dict"}
        raise UserError(
            coded("DATA-020", f"{OPTION} {name}: has no {lacking[0]}, which returns {what[lacking[0]]} (docs/dataset_class.md)")
        )
    try:
        inspect.signature(kind).bind(*arguments)
    except TypeError as error:
        taken = "(tokenizer, max_token_length, resolution, debug_dataset)"
        raise UserError(coded("DATA-020", f"{OPTION} {name}: its constructor must take {taken}: {error}")) from error
    except ValueError:  # no readable signature: creating the object will show whether it fits
        return


def _first_look(source: CustomSource, index: int) -> object:
    """A batch as in the first epoch with seed 0: independent of the run, and always the same."""
    return source.item(index, 0, fold(0, "first look", index), fold(0, "own epoch", 0))


class _Nowhere:
    """A file that discards its content."""

    def write(self, data: bytes) -> int:
        return len(data)
