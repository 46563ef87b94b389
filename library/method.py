"""What a fine-tuning method has to answer; everything else about a run exists once, in `library.training`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from library.caption_rewriting import RewriteCaption

if TYPE_CHECKING:
    import torch
    from torch import nn

    from library.model.bundle import StableDiffusion


@dataclass(frozen=True)
class ExpectedWeights:
    """How many weights a method's product holds and how many are trained, worked out before anything is loaded.

    None where they are not known beforehand; `known_by` then says who knows them.
    """

    product: int | None
    trained: int | None
    known_by: str = ""


@dataclass(frozen=True)
class Product:
    """One of the files that a method writes at each save; the first one is the run's own.

    `write(path, dtype, metadata)` writes it whole or not at all; `dtype` None keeps float32. `kind` is a key of `model_spec.PRODUCTS`.
    """

    kind: str
    extension: str  # with the dot, "" for a folder
    write: Callable[[Path, torch.dtype | None, Mapping[str, str] | None], None]
    suffix: str = ""  # behind --output_name
    trigger: str | None = None  # the words that call up what it has learned
    facts: Mapping[str, Any] = field(default_factory=dict)  # its own metadata, beside `describe`'s
    weights: int | None = None  # numbers in it; None: all that the method's product has


class Method(Protocol):
    """LoRA, DreamBooth, fine-tuning, Textual Inversion or XTI, as the training loop sees it.

    `rewrite_caption` is a plain picklable function, not a bound method: loader workers get a copy of it, and must not
    get a copy of the weights with it. It is for captions of images; the prompts of samples stay as they are.
    """

    name: str
    rewrite_caption: RewriteCaption
    full_precision: bool  # the model's own weights are trained, or go into the product: they are kept in float32

    def attach(self, model: StableDiffusion) -> None:
        """Freeze, unfreeze and insert what this method needs into the model; called once, before any step."""

    def modules(self) -> list[nn.Module]:
        """The modules that hold what is trained: what the task registers and a saved state holds."""

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups: `params`, an optional `lr` and a `name` for the log."""

    def trains_text_encoder(self, step: int) -> bool:
        """Whether gradients flow into (or through) the text encoder in update `step`, counted from 0."""

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """Those of what is trained that belong to the text encoder."""

    def uses_all_weights(self) -> bool:
        """Whether each update trains all that is trained, but for a text encoder that has stopped; False where it is not known."""

    def go_on(self, step: int) -> None:
        """Called once when a run is resumed after `step` updates, its weights restored: freeze what was frozen by then."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first batch of epoch `epoch`, counted from 0."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """What has to happen after each update (limit norms, restore frozen rows); returns values to log."""

    def describe(self) -> Mapping[str, Any]:
        """This method's own metadata (`ss_*` keys) for the file it saves."""

    def products(self, save_model_as: str | None) -> Sequence[Product]:
        """What each save writes, at least one; `save_model_as` is the option of that name."""


@runtime_checkable
class RemembersBase(Protocol):
    """What the methods of those scripts answer besides that have `--prior_from_base`."""

    def as_before(self) -> AbstractContextManager[StableDiffusion]:
        """Inside, the model that it gives predicts as the attached one did before training, whatever has been trained since.

        It is for passes without gradients, and for methods that were asked to remember when they were attached.
        """
