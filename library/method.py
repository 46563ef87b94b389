"""What a fine-tuning method must provide; everything else about a run exists once, in `library.training`."""

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
    """How many weights a method's product has and how many are trained, computed before anything is loaded.

    None if they are not known in advance; `known_by` then names the part that knows them.
    """

    product: int | None
    trained: int | None
    known_by: str = ""


@dataclass(frozen=True)
class Product:
    """One of the files that a method writes at each save; the first one is the run's main file.

    `write(path, dtype, metadata)` writes it completely or not at all; `dtype` None keeps float32. `kind` is a key of `model_spec.PRODUCTS`.
    """

    kind: str
    extension: str  # with the dot; "" for a folder
    write: Callable[[Path, torch.dtype | None, Mapping[str, str] | None], None]
    suffix: str = ""  # after --output_name
    trigger: str | None = None  # the prompt words that activate what it learned
    facts: Mapping[str, Any] = field(default_factory=dict)  # its metadata in addition to `describe`'s
    weights: int | None = None  # number of weights; None: as many as the method's product


class Method(Protocol):
    """LoRA, DreamBooth, fine-tuning, Textual Inversion or XTI, as the training loop sees it.

    `rewrite_caption` is a plain picklable function, not a bound method: loader workers get a copy of it, and must not
    get a copy of the weights with it. It is for captions of images; the prompts of samples stay as they are.
    """

    name: str
    rewrite_caption: RewriteCaption
    full_precision: bool  # the model's own weights are trained or saved, so they stay in float32

    def attach(self, model: StableDiffusion) -> None:
        """Freeze, unfreeze and insert what this method needs into the model; called once, before any step."""

    def modules(self) -> list[nn.Module]:
        """Return the modules with the trained weights: the task registers them, and a saved state contains them."""

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups: `params`, an optional `lr` and a `name` for the log."""

    def trains_text_encoder(self, step: int) -> bool:
        """Whether gradients flow into or through the text encoder in update `step`, counted from 0."""

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters that belong to the text encoder."""

    def uses_all_weights(self) -> bool:
        """Whether each update trains all trained parameters, except for a stopped text encoder; False if unknown."""

    def go_on(self, step: int) -> None:
        """Freeze what was frozen after `step` updates; called once when a run resumes, after its weights are restored."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first batch of epoch `epoch`, counted from 0."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """Do what each update requires (limit norms, restore frozen rows); returns values to log."""

    def describe(self) -> Mapping[str, Any]:
        """Return this method's own metadata (`ss_*` keys) for the file it saves."""

    def products(self, save_model_as: str | None) -> Sequence[Product]:
        """Return what each save writes, at least one product; `save_model_as` is the option of that name."""


@runtime_checkable
class RemembersBase(Protocol):
    """What methods of the scripts with `--prior_from_base` provide in addition."""

    def as_before(self) -> AbstractContextManager[StableDiffusion]:
        """Yield a model that predicts as the attached one did before training, even after updates.

        For passes without gradients, and for methods that were asked to remember the base model when they were attached.
        """
