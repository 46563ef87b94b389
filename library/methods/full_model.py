"""Training of the model's own weights: the U-Net and optionally the text encoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from library.caption_rewriting import RewriteCaption, keep_caption
from library.method import Product
from library.model.bundle import StableDiffusion
from library.model.save_forms import EXTENSIONS, product_form, save_product
from library.options.groups.scripts import FineTune, FullModelScript, TrainDb


@dataclass(frozen=True)
class FullModelSettings:
    """What is trained and at which rate; `text_encoder_updates` None trains the text encoder throughout, 0 never.

    The text encoder uses `text_encoder_lr`, or `learning_rate` if that is None. A part with rate 0 is frozen.
    """

    learning_rate: float
    text_encoder_updates: int | None = None
    text_encoder_lr: float | None = None
    save_model_as: str | None = None  # None: the format of the source
    use_safetensors: bool = False
    keeps_base: bool = False  # an unchanged copy of the trained parts is kept, for `as_before`


def dreambooth_settings(options: TrainDb) -> FullModelSettings:
    """The settings from the options of train_db.py."""
    stop = options.trained.stop_text_encoder_training
    return _settings(options, options.trained.learning_rate_te, None if stop is None else max(stop, 0))


def fine_tune_settings(options: FineTune) -> FullModelSettings:
    """The settings from the options of fine_tune.py."""
    return _settings(options, options.trained.learning_rate_te, None if options.trained.train_text_encoder else 0)


def _settings(options: FullModelScript, text_encoder_lr: float | None, text_encoder_updates: int | None) -> FullModelSettings:
    return FullModelSettings(
        learning_rate=options.optimizer.learning_rate,
        text_encoder_updates=text_encoder_updates,
        text_encoder_lr=text_encoder_lr,
        save_model_as=options.saving.save_model_as,
        use_safetensors=options.saving.use_safetensors,
        keeps_base=options.data.prior_from_base is not None,
    )


class FullModelMethod:
    """DreamBooth and fine-tuning: the product is the whole model."""

    name = "full_model"
    full_precision = True

    def __init__(self, settings: FullModelSettings) -> None:
        self.settings = settings
        self.rewrite_caption: RewriteCaption = keep_caption
        self._model: StableDiffusion | None = None
        self._base: StableDiffusion | None = None
        self._form = ""

    def attach(self, model: StableDiffusion) -> None:
        """Freeze the VAE and all parts that are not trained."""
        assert model.source is not None, "a model that is trained whole comes from a file or a folder"
        self._model = model
        assert model.source is not None, "a model that is saved whole was loaded from somewhere"
        self._form = product_form(self.settings.save_model_as, self.settings.use_safetensors, model.source.layout)
        model.vae.requires_grad_(False)
        model.unet.requires_grad_(self._trains_unet)
        for text_encoder in model.text_encoders:
            text_encoder.requires_grad_(self.trains_text_encoder(0))
        if self.settings.keeps_base:
            self._base = self._copied(model)

    def _copied(self, model: StableDiffusion) -> StableDiffusion:
        """Return the model with frozen copies of the trained parts; it shares the others."""
        unet = _frozen_copy(model.unet) if self._trains_unet else model.unet
        first, *others = map(_frozen_copy, model.text_encoders) if self.trains_text_encoder(0) else model.text_encoders
        # a half-precision copy computes in half precision, like the base of a network
        return replace(model, unet=unet, text_encoder=first, further_text_encoders=tuple(others), unet_autocast=not self._trains_unet)

    @contextmanager
    def as_before(self) -> Iterator[StableDiffusion]:
        """Yield the copy, which never changes."""
        assert self._base is not None, "the settings ask for it"
        yield self._base

    def modules(self) -> list[nn.Module]:
        """The trained ones of U-Net and text encoder."""
        model = self._attached
        return [*([model.unet] if self._trains_unet else []), *(model.text_encoders if self.trains_text_encoder(0) else [])]

    def param_groups(self) -> list[dict[str, Any]]:
        """One group per part."""
        groups, model = [], self._attached
        if self._trains_unet:
            groups.append({"params": list(model.unet.parameters()), "lr": self.settings.learning_rate, "name": "unet"})
        if self.trains_text_encoder(0):
            groups.append({"params": self.text_encoder_parameters(), "lr": self._text_encoder_lr, "name": "textencoder"})
        return groups

    @property
    def _attached(self) -> StableDiffusion:
        assert self._model is not None, "attach comes first"
        return self._model

    def _freeze_text_encoders(self) -> None:
        for text_encoder in self._attached.text_encoders:
            text_encoder.requires_grad_(False)

    @property
    def _trains_unet(self) -> bool:
        return self.settings.learning_rate != 0

    @property
    def _text_encoder_lr(self) -> float:
        settings = self.settings
        return settings.learning_rate if settings.text_encoder_lr is None else settings.text_encoder_lr

    def trains_text_encoder(self, step: int) -> bool:
        """True until `text_encoder_updates` updates are done; never at rate 0."""
        limit = self.settings.text_encoder_updates
        return self._text_encoder_lr != 0 and (limit is None or step < limit)

    def text_encoder_parameters(self) -> list[nn.Parameter]:
        """The text encoder's parameters, if they are trained."""
        trained = self._attached.text_encoders if self.trains_text_encoder(0) else ()
        return [parameter for text_encoder in trained for parameter in text_encoder.parameters()]

    def uses_all_weights(self) -> bool:
        """True: a pass uses every part of a model."""
        return True

    def go_on(self, step: int) -> None:
        """Freeze the text encoder if its last update is done."""
        if not self.trains_text_encoder(step):
            self._freeze_text_encoders()

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: nothing changes with the epoch."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """Freeze the text encoder permanently after its last update, so that it costs no gradients from then on."""
        if self.settings.text_encoder_updates and not self.trains_text_encoder(step + 1):
            self._freeze_text_encoders()
        return {}

    def describe(self) -> Mapping[str, Any]:
        """Empty: a checkpoint has no `ss_network_*` keys."""
        return {}

    def products(self, save_model_as: str | None) -> list[Product]:
        """The model: a file, or a Diffusers folder."""
        return [Product(self.name, EXTENSIONS[self._form], self.save)]

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the whole model; as trained, in float32, if `dtype` is None."""
        said = metadata or {}
        trained = (int(said.get("ss_epoch", 0)), int(said.get("ss_steps", 0)))
        spec = {key: value for key, value in said.items() if key.startswith("modelspec.")}  # training metadata is for networks
        save_product(self._attached, path, self._form, dtype or torch.float32, trained, spec or None)


Part = TypeVar("Part", bound=nn.Module)


def _frozen_copy(part: Part) -> Part:
    return copy.deepcopy(part).eval().requires_grad_(False)
