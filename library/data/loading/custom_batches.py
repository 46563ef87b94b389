"""Batches from a user's class (--dataset_class): its interface, and how its values become a Batch."""

from __future__ import annotations

import contextlib
import itertools
import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from library.caption_rewriting import RewriteCaption, keep_caption
from library.data.batching.sampler import GlobalBatch
from library.data.loading.batch import Batch
from library.data.loading.custom_check import CustomItem, checked
from library.data.loading.dataset import Tokenize
from library.errors import UserError, coded, named_line
from library.seeds import fold, python_rng
from library.words import counted

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

OPTION = "--dataset_class"
T = TypeVar("T")


class CustomBatches(Protocol):
    """A class of ready-made batches, as `--dataset_class module.Class` names it. It does not have to inherit from anything.

    Each process creates one, and pickles it for loader workers if the system spawns them (Windows, macOS). A method
    `set_current_epoch(epoch: int)` is optional: every process and loader worker calls it before the first batch of an epoch; epochs count
    from 1.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, max_token_length: int | None, resolution: tuple[int, int] | None, debug_dataset: bool
    ) -> None:
        """`tokenizer` is transformers' CLIPTokenizer of the model; the other arguments are the options of the same names.

        `resolution` is (width, height) in pixels.
        """

    def __len__(self) -> int:
        """Batches per epoch: at least 1, and the same in each epoch and process."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Batch `index`, with any number B of images. A value of None is the same as a missing key.

        images        float [B,3,H,W] in −1..1, H and W multiples of 8; or instead:
        latents       float [B,4,H/8,W/8], multiplied by 0.18215. All batches use the same one of the two
        captions      list of B texts; optional with input_ids
        input_ids     integers [B,N,77], or [B,77] for one window: windows of CLIP ids, N = --max_token_length / 75.
                      Missing: captions are tokenized
        loss_weights  float [B], factors of the losses. Missing: 1
        masks         float [B,H,W], or [B,1,H/8,W/8], in 0..1: where the loss counts. Missing: everywhere
        image_keys    list of B texts that name the images in messages

        Random numbers from `random`, `numpy.random` and torch are the same for the same --seed, epoch and index: all three are seeded
        before each call.
        """


class CustomSource:
    """A named object of the user's class: requests batches, and converts exceptions of the class to errors that name their origin."""

    def __init__(self, name: str, dataset: CustomBatches, file: str | None = None) -> None:
        """`name` is module.Class, `file` the source file of the class."""
        self.name, self.dataset, self.file = name, dataset, file
        self._epoch: int | None = None

    def place(self, index: int) -> str:
        """Start of a line about batch `index`."""
        return f"{OPTION} {self.name}[{index}]"

    def item(self, index: int, epoch: int, seed: int, epoch_seed: int) -> object:
        """The value of the class for batch `index` of `epoch` (from 0); `seed` is for the batch, `epoch_seed` for the epoch."""
        if self._epoch != epoch:
            self._epoch = epoch
            tell = getattr(self.dataset, "set_current_epoch", None)
            if tell is not None:
                with seeded(epoch_seed):
                    self.call(lambda: tell(epoch + 1), f"{OPTION} {self.name}: set_current_epoch({epoch + 1})")
        with seeded(seed):
            return self.call(lambda: self.dataset[index], self.place(index))

    def call(self, act: Callable[[], T], place: str) -> T:
        """Call `act`; an exception of the class becomes a UserError of one line."""
        return as_user_fault(act, place, self.file)


@dataclass(frozen=True)
class CaptionReading:
    """How captions of a user's class become ids: in windows of 75 tokens, after `rewrite_caption`.

    If `reread` (a reason) is set, captions are always tokenized, even if the class returns ids. With `are_made` the method generates the
    captions and needs none from the class.
    """

    tokenize: Tokenize
    windows: int
    rewrite_caption: RewriteCaption = keep_caption
    reread: str = ""
    are_made: bool = False


class CustomBatchDataset(torch.utils.data.Dataset["Batch"]):
    """Batches of the class for the loader: dataset[share] is the batch of the share's single request. Picklable."""

    def __init__(self, source: CustomSource, seed: int, captions: CaptionReading, are_latents: bool, scale: float) -> None:
        """`seed` is the run's seed; `scale` is the factor of trained latents."""
        self.source, self.seed, self.captions = source, seed, captions
        self.are_latents, self.scale = are_latents, scale

    def __getitem__(self, share: GlobalBatch) -> Batch:
        """The batch of a share. Raises UserError if the class fails or returns invalid values."""
        (request,) = share
        place = self.source.place(request.record)
        item_of_class = self.source.item(request.record, request.epoch, request.seed, fold(self.seed, "own epoch", request.epoch))
        item = checked(item_of_class, place, self.captions.windows, needs_text=not self.captions.are_made)
        if item.are_latents != self.are_latents:
            kinds = ("latents", "images") if item.are_latents else ("images", "latents")
            raise UserError(
                coded("DATA-022", f"{place}: has {kinds[0]}, while the first batch has {kinds[1]}; return the same in all batches")
            )
        seeds = [fold(request.seed, "image", row) for row in range(len(item))]
        captions, input_ids, token_weights = self._text(item, seeds, place)
        return Batch(
            images=None if item.are_latents else item.pictures,
            latents=item.pictures / self.scale if item.are_latents else None,
            input_ids=input_ids,
            token_weights=token_weights,
            loss_weights=item.loss_weights * request.weight,
            seeds=torch.tensor(seeds, dtype=torch.int64),
            captions=captions,
            paths=item.image_keys or tuple(f"{self.source.name}[{request.record}] image {row}" for row in range(len(item))),
            records=(request.record,) * len(item),
            masks=item.masks,
            strata=_strata(request.stratum, request.seed, len(item)),
            whole_weight=request.weight,
        )

    def _text(self, item: CustomItem, seeds: list[int], place: str) -> tuple[tuple[str, ...], torch.Tensor, torch.Tensor | None]:
        """Captions, ids [B,N,77] and, if captions are weighted, token weights."""
        how = self.captions
        if item.input_ids is not None and not how.reread:
            return item.captions or ("",) * len(item), item.input_ids, None
        if item.captions is None and not how.are_made:
            raise UserError(
                coded(
                    "DATA-022",
                    f"{place}: has input_ids without captions, which {how.reread} needs; return captions, "
                    f"a list of {counted(len(item), 'text')}",
                )
            )
        written = item.captions or ("",) * len(item)
        captions = tuple(how.rewrite_caption(text, python_rng(seed, "rewrite")) for text, seed in zip(written, seeds, strict=True))
        ids, weights = zip(*map(how.tokenize, captions), strict=True)
        return captions, torch.stack(ids), None if weights[0] is None else torch.stack(weights)


def _strata(stratum: tuple[int, int] | None, seed: int, images: int) -> torch.Tensor | None:
    """int64 [B,2]: the batch's stratum in its update, divided among its images in random order."""
    if stratum is None:
        return None
    order = list(range(images))
    python_rng(seed, "strata").shuffle(order)
    place, batches = stratum
    return torch.tensor([(place * images + row, batches * images) for row in order], dtype=torch.int64)


def counted_by_images(batches: Iterable[Batch], per_update: int, mean_over_processes: Callable[[int], float]) -> Iterator[Batch]:
    """Yield the batches, reweighted so that each image of an update counts the same; an update has `per_update` batches.

    The sampler counts such a batch as one image. `mean_over_processes` averages this process's number of images over all processes.
    """
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, per_update)):
        if any(batch.whole_weight is None for batch in group):
            yield from group
            continue
        sizes = [len(batch) if batch.whole_weight else 0 for batch in group]  # a weight of 0 marks a batch that only fills a process's turn
        mean = mean_over_processes(sum(sizes)) / len(group)
        for batch, size in zip(group, sizes, strict=True):
            factor = size / (mean * batch.whole_weight) if batch.whole_weight else 1.0
            yield batch if factor == 1 else replace(batch, loss_weights=batch.loss_weights * factor)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context in which the generators of Python, NumPy and torch (CPU) start from `seed`; afterwards their previous states are restored."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def as_user_fault(act: Callable[[], T], place: str, file: str | None) -> T:
    """Call `act`; an exception becomes a UserError of one line with the line in `file` (or the last frame) that raised it."""
    try:
        return act()
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [frame for frame in frames if frame.filename == file] or frames
        where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        raise UserError(coded("DATA-021", f"{place}: raised {named_line(error)}{where}")) from error
