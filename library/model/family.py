"""Model families: every difference between Stable Diffusion v1 and v2, readable without torch.

All other code asks a `ModelFamily`; a new family is a new value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from library.console import log
from library.errors import UserError, coded

if TYPE_CHECKING:
    from torch import Tensor

    from library.model.text.conditioning import CaptionReader, Conditioning, TextEncoders

Prediction = Literal["epsilon", "v_prediction"]
SizeIds = Callable[["Tensor"], "Tensor"]  # [B,6] of original width, height, left, top, shown width, height -> ids [B,K] for the U-Net
SCALE_FACTOR = 0.18215  # latents are multiplied by it, so that their standard deviation is about 1 (Rombach et al. 2022, app. G)
_END = 49407  # CLIP's token after a caption


@dataclass(frozen=True)
class TextEncoderFacts:
    """A text encoder of a family."""

    prefix: str  # prefix of its tensor names in original-layout files
    layout: Literal["transformers", "open_clip"]  # whose names follow the prefix
    width: int
    activation: str
    padding: int  # the token that fills a window after the end of a caption
    tokenizer_folder: str  # under --tokenizer_cache_dir
    lora_prefix: str  # prefix of its modules' keys in LoRA files


@dataclass(frozen=True)
class PartSizes:
    """Weights of the parts, and of a LoRA of rank 1 on the U-Net, the text encoder, and the U-Net's 3×3 (and remaining) convolutions."""

    unet: int
    text_encoder: int
    vae: int
    lora_unet: int
    lora_text_encoder: int
    lora_wide: int
    lora_extended: int


@dataclass(frozen=True)
class UNetFacts:
    """What the shapes of a U-Net's tensors do not show, and what is known of it without a file."""

    context_width: int  # D of the context [B,T,D] in the released models
    heads: int | None  # of every attention; None: width / `head_width`
    head_width: int | None
    linear_projection: bool  # around transformers; otherwise 1×1 convolutions
    lora_prefix: str = "lora_unet_"

    def heads_of(self, widths: Sequence[int]) -> int | list[int]:
        """Return the number of heads, for all levels or for each level."""
        if self.heads is not None:
            return self.heads
        assert self.head_width is not None
        return [width // self.head_width for width in widths]


def _read_clip(text_encoders: TextEncoders, input_ids: Tensor, token_weights: Tensor | None, clip_skip: int | None) -> Conditioning:
    """Return the output of one CLIP encoder: of its last layer, or with clip skip of an earlier one, through the final norm."""
    from library.model.text.conditioning import Conditioning
    from library.model.text.encode import encode_text

    (text_encoder,) = text_encoders
    return Conditioning(encode_text(text_encoder, input_ids, clip_skip, token_weights))


@dataclass(frozen=True)
class ModelFamily:
    """A family of models: how captions are read, the names and sizes of parts, and its names in files and programs."""

    name: str
    title: str  # in messages
    series: str  # the release series
    flag: str  # the option that selects this family; "" for the default family
    text_encoders: tuple[TextEncoderFacts, ...]
    unet: UNetFacts
    sizes: PartSizes  # of the released models, counted in their files
    takes_clip_skip: bool  # otherwise its text encoder already ends at the best layer
    predictions: tuple[Prediction, ...]  # of the released models, the usual one first
    base_model: str  # `ss_base_model_version` of a model that predicts noise; velocity adds "_v"
    architecture: str  # Stability AI's Model Metadata Standard: of models that predict noise
    velocity_architecture: str  # the same, of models that predict velocity
    scheduler: str  # the diffusers class that the released folders name
    resolution: int = 512  # default size, in pixels per side
    scale_factor: float = SCALE_FACTOR
    read: CaptionReader = _read_clip
    size_ids: SizeIds | None = None  # None: the U-Net takes no sizes

    @property
    def text_parts(self) -> dict[str, TextEncoderFacts]:
        """The text encoders by their folder names in Diffusers: text_encoder, text_encoder_2, …"""
        return {f"text_encoder_{number}" if number > 1 else "text_encoder": one for number, one in enumerate(self.text_encoders, 1)}

    @property
    def reader(self) -> TextEncoderFacts:
        """The text encoder whose tokenizer cuts and pads captions: the first; `read` gives its ids to all."""
        return self.text_encoders[0]

    @property
    def word_width(self) -> int:
        """The length of a new word's vector, over all text encoders."""
        return sum(encoder.width for encoder in self.text_encoders)

    def architecture_of(self, prediction: str) -> str:
        """The standard's name of a model that predicts "epsilon" or "v_prediction"."""
        return self.architecture if prediction == "epsilon" else self.velocity_architecture

    @property
    def inpainting_architecture(self) -> str:
        """The standard's name of an inpainting model, as programs write it."""
        return f"stable-diffusion-{self.name}-inpainting"

    def base_version(self, prediction: str) -> str:
        """The name of the model's kind in other programs: sd_v1, sd_v2 or sd_v2_v."""
        return self.base_model + ("_v" if prediction == "v_prediction" else "")

    def clip_skip(self, asked: int | None) -> int | None:
        """Return `--clip_skip` as this family uses it, 1 for the last layer; None for the encoder's built-in end."""
        return asked if self.takes_clip_skip else None

    def usable_clip_skip(self, asked: int | None) -> int | None:
        """`clip_skip` with a warning if it is ignored. Raises UserError for an invalid layer number."""
        if asked is not None and asked < 1:
            raise UserError(coded("MODEL-015", f"--clip_skip {asked}: layers are counted from 1, the last one; use 1 or 2"))
        if asked is not None and not self.takes_clip_skip:
            log.warning("--clip_skip %d is ignored: %s always uses the second last layer", asked, self.title)
        return self.clip_skip(asked)

    def is_in(self, names: Iterable[str]) -> bool:
        """Whether an original-layout file with these tensor names has this family's text encoders."""
        names = list(names)
        return all(any(name.startswith(encoder.prefix) for name in names) for encoder in self.text_encoders)


V1 = ModelFamily(
    name="v1",
    title="Stable Diffusion v1",
    series="Stable Diffusion 1.x",
    flag="",
    text_encoders=(
        TextEncoderFacts(
            prefix="cond_stage_model.transformer.",
            layout="transformers",
            width=768,
            activation="quick_gelu",
            padding=_END,
            tokenizer_folder="openai_clip-vit-large-patch14",
            lora_prefix="lora_te_text_model_",
        ),
    ),
    unet=UNetFacts(context_width=768, heads=8, head_width=None, linear_projection=False),
    sizes=PartSizes(859_520_964, 123_060_557, 83_653_863, 423_936, 165_888, 544_000, 82_880),
    takes_clip_skip=True,
    predictions=("epsilon",),
    base_model="sd_v1",
    architecture="stable-diffusion-v1",
    velocity_architecture="stable-diffusion-v1",
    scheduler="PNDMScheduler",
)
V2 = ModelFamily(
    name="v2",
    title="Stable Diffusion v2",
    series="Stable Diffusion 2.x",
    flag="--v2",
    text_encoders=(
        TextEncoderFacts(
            prefix="cond_stage_model.model.",
            layout="open_clip",
            width=1024,
            activation="gelu",
            padding=0,  # "!"
            tokenizer_folder="stabilityai_stable-diffusion-2",
            lora_prefix="lora_te_text_model_",
        ),
    ),
    unet=UNetFacts(context_width=1024, heads=None, head_width=64, linear_projection=True),
    sizes=PartSizes(865_910_724, 354_032_641, 83_653_863, 432_128, 423_936, 544_000, 82_880),
    takes_clip_skip=False,
    predictions=("epsilon", "v_prediction"),
    base_model="sd_v2",
    architecture="stable-diffusion-v2-512",
    velocity_architecture="stable-diffusion-v2-768-v",
    scheduler="DDIMScheduler",
)
FAMILIES: Mapping[str, ModelFamily] = {family.name: family for family in (V1, V2)}


def family_of_flag(v2: bool) -> ModelFamily:
    """The family that `--v2` selects, set or not."""
    return V2 if v2 else V1


def family_of_names(names: Iterable[str]) -> ModelFamily | None:
    """The family of an original-layout file by its tensor names; None without a text encoder. If two match, the later one wins."""
    names = list(names)
    return next((family for family in tuple(FAMILIES.values())[::-1] if family.is_in(names)), None)


def family_of_base_version(base_version: str) -> ModelFamily | None:
    """The family that `ss_base_model_version` names; None for an unknown name."""
    return next((family for family in FAMILIES.values() if base_version.startswith(family.base_model)), None)
