"""The groups of options of each script: one frozen dataclass per script."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from library.options.declare import Script
from library.options.groups.data import (
    CaptionDropoutOptions,
    DataOptions,
    MetadataOptions,
    PriorOptions,
    RegularizationOptions,
    WeightedCaptionOptions,
)
from library.options.groups.diffusion import DiffusionOptions
from library.options.groups.full_model import CheckpointSavingOptions, DreamBoothOptions, FineTuneOptions
from library.options.groups.logging import LoggingOptions
from library.options.groups.model import ModelOptions
from library.options.groups.network import NetworkOptions
from library.options.groups.optimizer import AveragingOptions, OptimizerOptions
from library.options.groups.sampling import SamplingOptions
from library.options.groups.saving import HubOptions, NetworkSavingOptions, SavingOptions
from library.options.groups.textual_inversion import EmbeddingSavingOptions, NewWordOptions, PivotalOptions, WordOptions
from library.options.groups.training import ConfigOptions, IdleOptions, TrainingOptions
from library.options.groups.validation import ValidationOptions
from library.options.word_names import BUNDLED, suffix_of


@dataclass(frozen=True)
class NetworkDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, MetadataOptions, PriorOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class DreamBoothDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, PriorOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class FineTuneDataOptions(WeightedCaptionOptions, CaptionDropoutOptions, MetadataOptions, PriorOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class WordDataOptions(MetadataOptions, RegularizationOptions, DataOptions):
    """Images and captions"""


@dataclass(frozen=True)
class TrainingScript(Script):
    """What the five scripts share; groups that a script declares again have additional options."""

    model: ModelOptions
    data: DataOptions
    training: TrainingOptions
    optimizer: OptimizerOptions
    diffusion: DiffusionOptions
    averaging: AveragingOptions
    validation: ValidationOptions
    saving: SavingOptions
    sampling: SamplingOptions
    logging: LoggingOptions
    hub: HubOptions
    config: ConfigOptions
    idle: IdleOptions

    @classmethod
    def group_names(cls) -> tuple[str, ...]:
        """A script's own groups come after the model and the data."""
        shared = [field.name for field in fields(TrainingScript)]
        own = [field.name for field in fields(cls) if field.name not in shared]
        behind = shared.index("data") + 1
        return (*shared[:behind], *own, *shared[behind:])

    @property
    def new_words(self) -> NewWordOptions | None:
        """The words that are trained, if any."""
        return None

    @property
    def product_suffixes(self) -> tuple[str, ...]:
        """Return what follows --output_name in the name of each file of a save."""
        return ("",)

    @property
    def uses_xformers(self) -> bool:
        """Whether attention is computed by xformers; --mem_eff_attn overrides it."""
        return self.training.xformers and not self.training.mem_eff_attn

    @property
    def text_encoder_norm(self) -> float | None:
        """The norm to which the text encoder's gradients are clipped separately; None: clipped together with the others."""
        return None

    @property
    def pads_captions(self) -> bool:
        """Whether captions are padded to the number of tokens that the text encoder reads."""
        return True


@dataclass(frozen=True)
class TrainNetwork(TrainingScript):
    """Train a LoRA (or another network) for Stable Diffusion 1.x or 2.x."""

    name: ClassVar[str] = "train_network.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir", "network_module")

    data: NetworkDataOptions
    network: NetworkOptions
    words: PivotalOptions
    saving: NetworkSavingOptions

    @property
    def new_words(self) -> NewWordOptions | None:
        """The words in addition to the network, if --token_string names any."""
        return self.words if self.words.words else None

    @property
    def product_suffixes(self) -> tuple[str, ...]:
        """The suffix of the network's file and, depending on where words are saved, of the words' files and of the file with both."""
        how, words = self.words.save_words, [suffix_of(word.text) for word in self.words.words]
        if not words or how == "bundled":
            return ("",)
        return ("", *words, *([f"-{BUNDLED}"] if how == "both" else []))

    @property
    def trains_text_encoder(self) -> bool:
        """True unless --network_train_unet_only is set, or --stop_text_encoder_training is -1."""
        return not self.network.network_train_unet_only and self.network.stop_text_encoder_training != -1

    @property
    def text_encoder_norm(self) -> float | None:
        """--max_grad_norm_te."""
        return self.network.max_grad_norm_te


@dataclass(frozen=True)
class FullModelScript(TrainingScript):
    """What the two scripts that train the model's own weights share."""

    saving: CheckpointSavingOptions

    @property
    def trains_text_encoder(self) -> bool:
        """Whether the text encoder is trained in some part of the run."""
        raise NotImplementedError


@dataclass(frozen=True)
class TrainDb(FullModelScript):
    """Teach a whole Stable Diffusion 1.x or 2.x model a subject or style from captioned images or class tokens (DreamBooth)."""

    name: ClassVar[str] = "train_db.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir")

    data: DreamBoothDataOptions
    trained: DreamBoothOptions

    @property
    def trains_text_encoder(self) -> bool:
        """True unless --stop_text_encoder_training is -1."""
        return self.trained.stop_text_encoder_training != -1

    @property
    def text_encoder_norm(self) -> float | None:
        """--max_grad_norm_te."""
        return self.trained.max_grad_norm_te

    @property
    def pads_captions(self) -> bool:
        """True unless --no_token_padding is set."""
        return not self.trained.no_token_padding


@dataclass(frozen=True)
class FineTune(FullModelScript):
    """Train a whole Stable Diffusion 1.x or 2.x model on images with captions in a metadata file (fine-tuning)."""

    name: ClassVar[str] = "fine_tune.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir")

    data: FineTuneDataOptions
    trained: FineTuneOptions

    @property
    def trains_text_encoder(self) -> bool:
        """Whether --train_text_encoder is set."""
        return self.trained.train_text_encoder

    @property
    def text_encoder_norm(self) -> float | None:
        """--max_grad_norm_te."""
        return self.trained.max_grad_norm_te

    @property
    def uses_xformers(self) -> bool:
        """Also with --diffusers_xformers, which overrides the others."""
        return self.trained.diffusers_xformers or super().uses_xformers


@dataclass(frozen=True)
class TrainTextualInversion(TrainingScript):
    """Teach Stable Diffusion 1.x or 2.x a new word for a subject or style without changing the model (Textual Inversion)."""

    name: ClassVar[str] = "train_textual_inversion.py"
    required: ClassVar[tuple[str, ...]] = ("pretrained_model_name_or_path", "output_dir", "token_string")

    data: WordDataOptions
    word: WordOptions
    saving: EmbeddingSavingOptions

    @property
    def new_words(self) -> NewWordOptions:
        """The words, for this script and XTI."""
        return self.word

    @property
    def product_suffixes(self) -> tuple[str, ...]:
        """ "" for a single word; with several, one suffix per word."""
        words = self.word.words
        return ("",) if len(words) < 2 else tuple(suffix_of(word.text) for word in words)

    @property
    def layers_with_vectors(self) -> int:
        """The number of cross-attention layers with separate vectors of the word; 1: shared by all."""
        return 1


@dataclass(frozen=True)
class TrainTextualInversionXti(TrainTextualInversion):
    """Teach Stable Diffusion 1.x or 2.x a new word with an embedding for each cross-attention layer of the U-Net (XTI, also called P+)."""

    name: ClassVar[str] = "train_textual_inversion_XTI.py"

    @property
    def layers_with_vectors(self) -> int:
        """All cross-attention layers of the U-Net in Stable Diffusion 1.x and 2.x."""
        return 16


SCRIPTS: tuple[type[TrainingScript], ...] = (TrainNetwork, TrainDb, FineTune, TrainTextualInversion, TrainTextualInversionXti)
