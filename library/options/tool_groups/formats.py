"""Options of the tools that convert models and read and change the metadata of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_EPOCHS, MOST_STEPS
from library.options.declare import Tool, needed, opt, word


@dataclass(frozen=True)
class ConvertOptions:
    """Models"""

    model_to_load: str = word("A .ckpt or .safetensors file, a Diffusers folder or a hub id.", path="model")
    model_to_save: Path = word(
        "What to write: a name that ends in .ckpt or .safetensors, or any other name for a Diffusers folder.", path="new model"
    )
    v1: bool = opt(False, "The model is Stable Diffusion 1.x; not needed, but checked.")
    v2: bool = opt(False, "The model is Stable Diffusion 2.x; not needed, but checked.")
    v_parameterization: bool = opt(False, "For a Diffusers folder: the model predicts velocity. Default: detected.")
    unet_use_linear_projection: bool = opt(False, "Has no effect: detected from the weights.")
    fp16: bool = opt(False, "Write the networks in fp16. Default: as in the file.")
    bf16: bool = opt(False, "Write the networks in bf16.")
    float: bool = opt(False, "Write the networks in float32.")


@dataclass(frozen=True)
class ConvertFileOptions:
    """Single files"""

    epoch: int = opt(0, "Epochs of training to record in the file, added to those it has.", at_least=0, at_most=MOST_EPOCHS)
    global_step: int = opt(0, "Updates of training to record in the file, added to those it has.", at_least=0, at_most=MOST_STEPS)
    metadata: str | None = opt(None, "Metadata for a .safetensors file, as in {'name': 'mine', 'resolution': '512x512'}.")


@dataclass(frozen=True)
class ConvertFolderOptions:
    """Diffusers folders"""

    reference_model: str | None = opt(None, "Take the scheduler's settings from this Diffusers folder or hub id.", path="model")
    variant: str | None = opt(None, "Part of the weights' file names, such as fp16.", path="part of a name")
    use_safetensors: bool = opt(False, "Write safetensors instead of .bin files.")


@dataclass(frozen=True)
class Convert(Tool):
    """Convert a model between .ckpt, .safetensors and the Diffusers layout."""

    name: ClassVar[str] = "tools/convert_diffusers20_original_sd.py"

    models: ConvertOptions
    file: ConvertFileOptions
    folder: ConvertFolderOptions


@dataclass(frozen=True)
class ShowMetadataOptions:
    """What is shown"""

    model: Path = needed("The .safetensors file.", path="file")
    json: bool = opt(False, "Print the metadata as JSON, for other programs.")


@dataclass(frozen=True)
class ShowMetadata(Tool):
    """Show the metadata and contents of a .safetensors file."""

    name: ClassVar[str] = "tools/show_metadata.py"
    required: ClassVar[tuple[str, ...]] = ("model",)

    shown: ShowMetadataOptions


@dataclass(frozen=True)
class EditMetadataOptions:
    """Metadata"""

    model: Path = needed("The .safetensors file.", path="file")
    save_to: Path | None = opt(None, "Write the changed file here. Default: overwrite --model.", path="new file")
    set: tuple[str, ...] = opt((), "Entries to set, as key=value, separated by spaces.")
    remove: tuple[str, ...] = opt((), "Entries to remove; * matches anything: ss_tag_frequency, 'ss_*dir*'.")
    from_json: Path | None = opt(
        None, "Set the entries of this JSON file, in the form that tools/show_metadata.py --json prints.", path="file"
    )
    clear: bool = opt(False, "Remove all entries first.")


@dataclass(frozen=True)
class EditMetadata(Tool):
    """Change the metadata of a .safetensors file; its weights stay identical."""

    name: ClassVar[str] = "tools/edit_metadata.py"
    required: ClassVar[tuple[str, ...]] = ("model",)

    edit: EditMetadataOptions


@dataclass(frozen=True)
class ConfigFromRunOptions:
    """Files"""

    source: Path = word("A manifest of a run (<name>.run.json), or a .safetensors file of a network.", path="file")
    target: Path = word("The config file to write, such as cat.toml; it must not exist yet.", path="new file")


@dataclass(frozen=True)
class ConfigFromRun(Tool):
    """Write a --config_file from a run's manifest or a trained network's metadata, to repeat that run or start from it."""

    name: ClassVar[str] = "tools/config_from_run.py"

    files: ConfigFromRunOptions


FORMAT_TOOLS = (Convert, ShowMetadata, EditMetadata, ConfigFromRun)
