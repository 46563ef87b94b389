"""Training of the model's own weights: the U-Net and, where asked, the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from library.training.method import keep_caption

SaveModel = Callable[[Any, Path, torch.dtype | None, Mapping[str, str] | None], None]


@dataclass(frozen=True)
class FullModelSettings:
    """What is trained and at which rate; `text_encoder_updates` None trains it throughout, 0 never."""

    learning_rate: float
    text_encoder_updates: int | None = None
    text_encoder_lr: float | None = None
    gradient_checkpointing: bool = False


class FullModelMethod:
    """DreamBooth and fine-tuning: the product is a whole checkpoint, written by `save_model`."""

    name = "full_model"
    rewrite_caption = staticmethod(keep_caption)

    def __init__(self, settings: FullModelSettings, save_model: SaveModel) -> None:
        self.settings = settings
        self._save = save_model
        self._model: Any = None

    def attach(self, model: Any) -> None:
        """Freeze the VAE and whatever is not trained."""
        self._model = model
        model.vae.requires_grad_(False)
        model.unet.requires_grad_(True)
        model.text_encoder.requires_grad_(self.settings.text_encoder_updates != 0)

    def modules(self) -> list[nn.Module]:
        """U-Net, and the text encoder where it is trained."""
        return [self._model.unet] + ([self._model.text_encoder] if self.settings.text_encoder_updates != 0 else [])

    def param_groups(self) -> list[dict[str, Any]]:
        """One group a part."""
        groups = [{"params": list(self._model.unet.parameters()), "lr": self.settings.learning_rate, "name": "unet"}]
        if self.settings.text_encoder_updates != 0:
            rate = self.settings.learning_rate if self.settings.text_encoder_lr is None else self.settings.text_encoder_lr
            groups.append({"params": list(self._model.text_encoder.parameters()), "lr": rate, "name": "textencoder"})
        return groups

    def trains_text_encoder(self, step: int) -> bool:
        """True until `text_encoder_updates` updates are done."""
        limit = self.settings.text_encoder_updates
        return limit is None or step < limit

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes with the epoch."""

    def after_step(self, step: int) -> Mapping[str, float]:
        """Nothing has to be limited or restored."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """A checkpoint has no `ss_network_*` keys."""
        return {}

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the whole model."""
        self._save(self._model, path, dtype, metadata)
