"""What a model is, judged from headers and config files alone, so that a wrong file or flag is reported before anything large loads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.console import log
from library.containers.weights_file import TensorInfo, WeightsFile, open_weights
from library.errors import Problem, UserError, coded
from library.model.family import FAMILIES, ModelFamily, family_of_flag, family_of_names
from library.model.files import convert, keys
from library.model.files.locate import WEIGHT_SUFFIXES, locate
from library.parsing.bounds import TooMuch
from library.parsing.json_text import parse_json
from library.paths.look import is_file, is_folder
from library.paths.opening import read_text
from library.words import counted

OPTION = "--pretrained_model_name_or_path"
LATENT_CHANNELS = 4
INPAINTING_CHANNELS = 9  # noisy latents (4), the mask (1), latents of the masked image (4), in this order
OTHER_INPUTS = {5: "a depth-to-image model", 8: "an image-editing (InstructPix2Pix) model", 7: "an upscaler"}
PREDICTIONS = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction"}
_TEXT_LAYER = re.compile(r"cond_stage_model\..*(?:\.layers|\.resblocks)\.(\d+)\.")
V_MARKERS = ("v_pred", "model.v_pred")  # an empty tensor of this name marks v-prediction


@dataclass(frozen=True)
class ModelFacts:
    """What the headers of a model for training say."""

    path: Path  # the file or Diffusers folder
    layout: str  # "safetensors", "ckpt" or "diffusers"
    family: ModelFamily
    in_channels: int
    prediction: str | None  # "epsilon", "v_prediction", or None if the file does not say
    has_vae: bool
    stamp: tuple[int, int]  # size and modification time (ns) of the file, to check later that it is still the loaded one
    text_layers: int = 12  # of the text encoder in the file
    option: str = OPTION  # names the model in messages

    @property
    def inpaints(self) -> bool:
        """Whether the U-Net takes a mask and a masked image in addition to the noisy latents."""
        return self.in_channels == INPAINTING_CHANNELS


def inspect(path_or_id: str | Path, option: str = OPTION) -> ModelFacts:
    """Inspect `path_or_id`; raises UserError unless it is a trainable Stable Diffusion v1 or v2 model."""
    path = locate(str(path_or_id), option, with_weights=False)
    return _inspect_folder(path, option) if is_folder(path) else file_facts(open_weights(path, option), option)


def check_flags(
    facts: ModelFacts,
    v2: bool,
    v_parameterization: bool,
    vae: str | None = None,
    clip_skip: int | None = None,
    train_inpainting: bool | None = None,
    warns: bool = True,
) -> None:
    """Raise UserError if the flags contradict the weights or there is no VAE; with `warns`, warn if they only look unusual.

    `train_inpainting` None accepts inpainting models and others.
    """
    problems = []
    model = f"{facts.option} {facts.path.name}"
    family, chosen = facts.family, family_of_flag(v2)
    if family is not chosen and family.flag:
        problems.append(coded("MODEL-007", f"{family.flag} is missing: {model} is a {family.title} model; add {family.flag}"))
    elif family is not chosen:
        problems.append(
            coded("MODEL-007", f"{chosen.flag} contradicts the weights: {model} is a {family.title} model; remove {chosen.flag}")
        )
    if v_parameterization and facts.prediction == "epsilon":
        problems.append(
            coded(
                "MODEL-007",
                f"--v_parameterization contradicts the model: {model} says that it predicts noise; remove the flag",
            )
        )
    if not v_parameterization and facts.prediction == "v_prediction":
        problems.append(coded("MODEL-007", f"--v_parameterization is missing: {model} says that it predicts velocity; add the flag"))
    if train_inpainting is not None and train_inpainting != facts.inpaints:
        problems.append(_wrong_inputs(facts))
    if family.takes_clip_skip and clip_skip is not None and clip_skip > facts.text_layers:
        problems.append(
            coded(
                "MODEL-015",
                f"--clip_skip {clip_skip}: the text encoder of {facts.path.name} has {counted(facts.text_layers, 'layer')}; use 1 or 2",
            )
        )
    if not facts.has_vae and not vae:
        problems.append(coded("MODEL-008", f"{model} has no VAE; set one with --vae"))
    if problems:
        raise UserError(*problems)
    if warns and v_parameterization and "v_prediction" not in family.predictions and facts.prediction is None:
        log.warning("--v_parameterization without --v2: few v1 models predict velocity; remove it unless you know that this one does")


def _wrong_inputs(facts: ModelFacts) -> Problem:
    """The error for an inpainting model without --train_inpainting, or another model with it."""
    where = f"{facts.option} {facts.path.name} is"
    if facts.inpaints:
        message = (
            f"--train_inpainting is missing: {where} an inpainting model ({INPAINTING_CHANNELS} input channels); add --train_inpainting"
        )
    else:
        message = (
            f"--train_inpainting contradicts the model: {where} an ordinary one ({facts.in_channels} input channels); "
            f"remove the flag, or use an inpainting model ({INPAINTING_CHANNELS} channels)"
        )
    return coded("MODEL-007", message)


def file_facts(file: WeightsFile, option: str = OPTION) -> ModelFacts:
    """Return the facts of an original-layout file."""
    infos = classic_infos(file.infos)
    fault, family = _not_trainable(infos), family_of_names(infos)
    if fault is not None:
        raise UserError(fault.reworded(f"{option} {file.path.name}: {fault}"))
    assert family is not None
    check_tensors(file, option)
    channels = infos[keys.UNET + "input_blocks.0.0.weight"].shape[1]
    _check_channels(channels, file.path.name, option)
    stat = file.path.stat()
    return ModelFacts(
        path=file.path,
        layout="safetensors" if file.path.suffix.lower() == ".safetensors" else "ckpt",
        family=family,
        in_channels=channels,
        prediction=_said_prediction(infos, file.metadata),
        has_vae=_any(infos, keys.VAE + "decoder."),
        stamp=(stat.st_size, stat.st_mtime_ns),
        text_layers=len({match[1] for name in infos if (match := _TEXT_LAYER.match(name))}),
        option=option,
    )


def check_tensors(file: WeightsFile, option: str) -> None:
    """Raise UserError if a tensor for a part of the model cannot be one of its weights."""
    for name, place in convert.places(file.infos).items():
        info = file.infos[name]
        if info.dtype[0] not in "FB" or info.dtype == "BOOL":
            raise UserError(
                coded(
                    "MODEL-011",
                    f"{option} {file.path.name}: {name} has whole numbers ({info.dtype}), not weights; use a model that is not quantized",
                )
            )
        first = name.endswith("input_blocks.0.0.weight") and len(info.shape) != 4
        if first or not info.shape or 0 in info.shape or not convert.has_fitting_shape(place, info.shape):
            shape = "×".join(map(str, info.shape)) or "of a single number"
            raise UserError(
                coded(
                    "MODEL-011",
                    f"{option} {file.path.name}: {name} has the shape {shape}, which is invalid for it; download it again",
                )
            )


def classic_infos(infos: Mapping[str, TensorInfo]) -> Mapping[str, TensorInfo]:
    """Return the tensors under their classic names (`keys.classic_name`) if the file is a Stable Diffusion 1 or 2 in SDXL's layout."""
    named = {keys.classic_name(name): info for name, info in infos.items()}
    context = next((info.shape[1:2] for name, info in infos.items() if name.endswith("attn2.to_k.weight")), None)
    widths = [info.shape[1:2] for name, info in named.items() if name.startswith("cond_stage_model.") and "token_embedding" in name]
    return named if context in widths else infos


def _not_trainable(infos: Mapping[str, TensorInfo]) -> Problem | None:
    """What a file is instead of a Stable Diffusion v1 or v2 checkpoint, with the remedy; None if it is one."""
    if _any(infos, keys.UNET):
        if _any(infos, "conditioner.embedders.") or _any(infos, keys.UNET + "label_emb."):
            return coded("MODEL-005", "is an SDXL model; these scripts train Stable Diffusion v1 and v2")
        if keys.UNET + "input_blocks.0.0.weight" not in infos:
            return coded("MODEL-005", "is a model of another family (such as SD3 or Flux); these scripts train Stable Diffusion v1 and v2")
        if family_of_names(infos) is None:
            return coded("MODEL-017", "has a U-Net but no text encoder; use the full checkpoint")
        return None
    if not infos:
        return coded("MODEL-017", "has no weights")
    if any(".lora_down." in name or ".lora_A." in name or "lora_up" in name or ".hada_w" in name or ".lokr_w" in name for name in infos):
        return coded(
            "MODEL-017", "is a LoRA file, not a model; use the model that it was made for (to continue training a LoRA: --network_weights)"
        )
    if _any(infos, "control_model.") or any("zero_convs." in name or "controlnet_" in name for name in infos):
        return coded("MODEL-017", "is a ControlNet, not a model that can be trained here")
    if is_vae_file(infos):
        return coded("MODEL-017", "is only a VAE; set it with --vae and name a full model here")
    if any(name in infos for name in ("emb_params", "string_to_param")) or infos.keys() == {"*"}:
        return coded("MODEL-017", "is a Textual Inversion embedding, not a model")
    if any(name.startswith(("down_blocks.", "text_model.", "mid_block.")) for name in infos):
        return coded("MODEL-017", "is one part of a Diffusers model; name the folder with model_index.json")
    if any("double_blocks." in name or "joint_blocks." in name or "transformer_blocks.0." in name for name in infos):
        return coded("MODEL-005", "is a model of another family (such as SD3 or Flux); these scripts train Stable Diffusion v1 and v2")
    return coded("MODEL-017", "is not a Stable Diffusion checkpoint (no weights under model.diffusion_model.)")


def is_vae_file(infos: Mapping[str, TensorInfo]) -> bool:
    """Whether the names are those of a VAE, alone or inside a checkpoint, in the original or Diffusers layout."""
    return any(name.removeprefix(keys.VAE).startswith("decoder.conv_in.") for name in infos)


def _said_prediction(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> str | None:
    if any(marker in infos for marker in V_MARKERS):
        return "v_prediction"
    said = metadata.get("modelspec.prediction_type", "").lower()
    if said in PREDICTIONS:
        return PREDICTIONS[said]
    named = metadata.get("modelspec.architecture", "").lower()
    velocity = {family.velocity_architecture for family in FAMILIES.values()} - {family.architecture for family in FAMILIES.values()}
    return "v_prediction" if named in velocity else None


def _inspect_folder(folder: Path, option: str) -> ModelFacts:
    config = read_json(folder / "unet" / "config.json", option)
    if config is None:
        raise UserError(coded("MODEL-004", f"{option} {folder}: {_wrong_folder(folder)}"))
    index = read_json(folder / "model_index.json", option) or {}
    if is_folder(folder / "text_encoder_2") or config.get("addition_embed_type") or "XL" in str(index.get("_class_name", "")):
        raise UserError(coded("MODEL-005", f"{option} {folder}: is an SDXL model; these scripts train Stable Diffusion v1 and v2"))
    text = read_json(folder / "text_encoder" / "config.json", option)
    if text is None:
        raise UserError(coded("MODEL-004", f"{option} {folder}: has no text_encoder/config.json; use the full Diffusers folder"))
    _check_channels(config.get("in_channels", LATENT_CHANNELS), folder.name, option)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", option) or {}
    return ModelFacts(
        path=folder,
        layout="diffusers",
        family=next(family for family in FAMILIES.values() if family.unet.linear_projection == bool(config.get("use_linear_projection"))),
        in_channels=config.get("in_channels", LATENT_CHANNELS),
        prediction=PREDICTIONS.get(scheduler.get("prediction_type", "epsilon")) if scheduler else None,
        has_vae=is_file(folder / "vae" / "config.json"),
        stamp=(0, 0),
        text_layers=int(text_settings(text).get("num_hidden_layers", 12)),  # transformers' own default
        option=option,
    )


def text_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the text encoder in its folder's config; those of a whole CLIP are one level deeper."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def read_json(path: Path, option: str) -> dict[str, Any] | None:
    """Return the object in a JSON file, None if the file is missing; raises UserError for a damaged one."""
    if not is_file(path):
        return None
    try:
        content = parse_json(read_text(path))
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{option} {path}: {fault}")) from fault
    except ValueError as fault:
        raise UserError(coded("MODEL-012", f"{option} {path}: is not valid JSON ({fault}); download it again")) from fault
    return content if isinstance(content, dict) else None


def _wrong_folder(folder: Path) -> str:
    """Why a folder is not a Diffusers model, with a guess at the intended one."""
    inside = sorted(folder.iterdir())
    models = [path.name for path in inside if is_file(path) and path.suffix.lower() in WEIGHT_SUFFIXES]
    below = [path.name for path in inside if is_folder(path) and is_file(path / "unet" / "config.json")]
    if is_folder(folder.parent / "unet") and is_file(folder / "config.json"):
        return f"is one part of a Diffusers model; name the folder above it, {folder.parent}"
    if below:
        return f"is not a Diffusers model itself; did you mean {' or '.join(str(folder / name) for name in below[:3])}?"
    if models:
        return f"is a folder of files, not a Diffusers model; name one file, such as {folder / models[0]}"
    return "is not a Diffusers model: it has no unet/config.json"


def _check_channels(channels: int, name: str, option: str) -> None:
    if channels not in (LATENT_CHANNELS, INPAINTING_CHANNELS):
        kind = OTHER_INPUTS.get(channels, "a model for another task")
        known = f"{LATENT_CHANNELS}, and inpainting models with {INPAINTING_CHANNELS}, can be trained"
        raise UserError(coded("MODEL-006", f"{option} {name}: is {kind} ({counted(channels, 'input channel')}); only models with {known}"))


def _any(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
