"""Which groups of options each script has: one frozen dataclass a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from library.options.declare import Script
from library.options.groups.data import CaptionDropoutOptions, DataOptions, MetadataOptions, RegularizationOptions, WeightedCaptionOptions
from library.options.groups.diffusion import DiffusionOptions
from library.options.groups.full_model import CheckpointSavingOptions, DreamBoothOptions, FineTuneOptions
from library.options.groups.logging import LoggingOptions
from library.options.groups.model import ModelOptions
from library.options.groups.network import NetworkOptions
from library.options.groups.optimizer import AveragingOptions, OptimizerOptions
from library.options.groups.sampling import SamplingOptions
from library.options.groups.saving import HubOptions, NetworkSavingOptions
from library.options.groups.textual_inversion import EmbeddingSavingOptions, WordOptions
from library.options.groups.training import ConfigOptions, TrainingOptions
from library.options.groups.validation import ValidationOptions


@dataclass(frozen=True)
class NetworkDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, MetadataOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class DreamBoothDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class FineTuneDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, MetadataOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class WordDataOptions(MetadataOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class TrainNetwork(Script):
    """Train a LoRA (or another network) for Stable Diffusion 1.x or 2.x."""

    name: ClassVar[str] = "train_network.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir", "network_module")

    model: ModelOptions
    data: NetworkDataOptions
    network: NetworkOptions
    training: TrainingOptions
    optimizer: OptimizerOptions
    diffusion: DiffusionOptions
    averaging: AveragingOptions
    validation: ValidationOptions
    saving: NetworkSavingOptions
    sampling: SamplingOptions
    logging: LoggingOptions
    hub: HubOptions
    config: ConfigOptions


@dataclass(frozen=True)
class TrainDb(Script):
    """Teach a whole Stable Diffusion 1.x or 2.x model a subject or style from captioned images or class words (DreamBooth)."""

    name: ClassVar[str] = "train_db.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir")

    model: ModelOptions
    data: DreamBoothDataOptions
    trained: DreamBoothOptions
    training: TrainingOptions
    optimizer: OptimizerOptions
    diffusion: DiffusionOptions
    averaging: AveragingOptions
    validation: ValidationOptions
    saving: CheckpointSavingOptions
    sampling: SamplingOptions
    logging: LoggingOptions
    hub: HubOptions
    config: ConfigOptions


@dataclass(frozen=True)
class FineTune(Script):
    """Train a whole Stable Diffusion 1.x or 2.x model on a collection of images whose captions are in a metadata file (fine-tuning)."""

    name: ClassVar[str] = "fine_tune.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir")

    model: ModelOptions
    data: FineTuneDataOptions
    trained: FineTuneOptions
    training: TrainingOptions
    optimizer: OptimizerOptions
    diffusion: DiffusionOptions
    averaging: AveragingOptions
    validation: ValidationOptions
    saving: CheckpointSavingOptions
    sampling: SamplingOptions
    logging: LoggingOptions
    hub: HubOptions
    config: ConfigOptions


@dataclass(frozen=True)
class TrainTextualInversion(Script):
    """Teach Stable Diffusion 1.x or 2.x a new word for a subject or style, the model itself untouched (Textual Inversion)."""

    name: ClassVar[str] = "train_textual_inversion.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir", "token_string")

    model: ModelOptions
    data: WordDataOptions
    word: WordOptions
    training: TrainingOptions
    optimizer: OptimizerOptions
    diffusion: DiffusionOptions
    averaging: AveragingOptions
    validation: ValidationOptions
    saving: EmbeddingSavingOptions
    sampling: SamplingOptions
    logging: LoggingOptions
    hub: HubOptions
    config: ConfigOptions


@dataclass(frozen=True)
class TrainTextualInversionXti(TrainTextualInversion):
    """Teach Stable Diffusion 1.x or 2.x a new word that is different for each cross-attention layer of the U-Net (XTI, also called P+)."""

    name: ClassVar[str] = "train_textual_inversion_XTI.py"


SCRIPTS: tuple[type[Script], ...] = (TrainNetwork, TrainDb, FineTune, TrainTextualInversion, TrainTextualInversionXti)
