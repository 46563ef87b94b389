"""Options of the tools that merge, resize, extract and check LoRAs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_RANK, MOST_RATIO, MOST_WEIGHT
from library.options.declare import Tool, needed, opt, word

PRECISIONS = ("float", "fp16", "bf16")
_DEVICE = "Where to compute: cuda, cuda:1, mps or cpu. Default: cpu."
_RATIOS = "Weight of each of --models, in the same order. Default: 1 each. May be negative."


@dataclass(frozen=True)
class ReceiptOptions:
    """Error report"""

    verbose: bool = opt(False, "Print a line for every module, not only for the worst ones.")
    max_error: float | None = opt(None, "Write nothing if a module's error is over this, such as 0.01.", at_least=0, at_most=MOST_WEIGHT)


@dataclass(frozen=True)
class LoraOutputOptions:
    """The file to write"""

    save_to: Path = needed("The LoRA to write: .safetensors, .ckpt or .pt.", path="new weights")
    save_precision: str | None = opt(None, "Precision of the file. Default: float.", choices=PRECISIONS)
    no_metadata: bool = opt(False, "Write no metadata into the file.")


@dataclass(frozen=True)
class MergedOutputOptions(LoraOutputOptions):
    """The file to write"""

    save_precision: str | None = opt(None, "Precision of the file. Default: that of --precision.", choices=PRECISIONS)
    precision: str = opt("float", "Precision in which weights are read and summed; float loses least.", choices=PRECISIONS)


@dataclass(frozen=True)
class ModelOutputOptions(MergedOutputOptions):
    """The file to write"""

    save_to: Path = needed(
        "The file to write: .safetensors or .ckpt; any other name makes a Diffusers folder (models only).", path="new file or folder"
    )


@dataclass(frozen=True)
class MergeLoraOptions:
    """What is merged"""

    models: tuple[str, ...] = opt((), "The network files: LoRA, LoCon and, to merge into a model, also LoHa and LoKr.", path="file")
    ratios: tuple[float, ...] = opt((), _RATIOS, at_least=-MOST_RATIO, at_most=MOST_RATIO)
    sd_model: str | None = opt(
        None, "The model to merge them into: a checkpoint, a Diffusers folder or a hub id. Default: merge into one LoRA.", path="model"
    )
    v2: bool = opt(False, "The model of --sd_model is Stable Diffusion 2.x.")
    concat: bool = opt(False, "To merge into one LoRA: keep all ranks side by side, which is exact; ranks may differ and add up.")
    shuffle: bool = opt(False, "To merge into one LoRA: shuffle its ranks, so that removing some later affects all files alike.")


@dataclass(frozen=True)
class MergeLora(Tool):
    """Merge LoRAs into a model, or into one LoRA."""

    name: ClassVar[str] = "networks/merge_lora.py"
    required: ClassVar[tuple[str, ...]] = ("models", "save_to")

    merge: MergeLoraOptions
    output: ModelOutputOptions
    receipt: ReceiptOptions


@dataclass(frozen=True)
class SvdMergeOptions:
    """What is merged"""

    models: tuple[str, ...] = opt((), "The LoRA files, of any ranks.", path="file")
    ratios: tuple[float, ...] = opt((), _RATIOS, at_least=-MOST_RATIO, at_most=MOST_RATIO)
    lbws: tuple[str, ...] = opt(
        (),
        "Weights of the blocks, one list for each of --models: 17 or 26 numbers as [1,0,0.5,...], the text encoder's first.",
    )
    new_rank: int = opt(4, "Rank of the new LoRA.", at_least=1, at_most=MOST_RANK)
    new_conv_rank: int | None = opt(None, "Rank for 3x3 convolutions. Default: --new_rank.", at_least=1, at_most=MOST_RANK)
    device: str | None = opt(None, _DEVICE)


@dataclass(frozen=True)
class SvdMergeLora(Tool):
    """Merge LoRAs of any ranks into one of a chosen rank: the best approximation of their weighted sum."""

    name: ClassVar[str] = "networks/svd_merge_lora.py"
    required: ClassVar[tuple[str, ...]] = ("models", "save_to")

    merge: SvdMergeOptions
    output: MergedOutputOptions
    receipt: ReceiptOptions


@dataclass(frozen=True)
class ResizeLoraOptions:
    """What is resized"""

    model: Path = needed("The LoRA file to make smaller.", path="file")
    new_rank: int = opt(4, "The new rank; with --dynamic_method the highest rank of any module.", at_least=1, at_most=MOST_RANK)
    new_conv_rank: int | None = opt(None, "The same for 3x3 convolutions. Default: --new_rank.", at_least=1, at_most=MOST_RANK)
    dynamic_method: str | None = opt(
        None,
        "Choose each module's rank by its singular values: sv_ratio keeps those above the largest / --dynamic_param; sv_cumulative "
        "keeps the share --dynamic_param of their sum, sv_fro that of the norm.",
        choices=("sv_ratio", "sv_fro", "sv_cumulative"),
    )
    svd_lowrank_niter: int = opt(
        2,
        "Has no effect: singular values are always computed exactly, from the two small matrices of each module.",
        at_least=0,
        at_most=1000,
    )
    dynamic_param: float | None = opt(
        None, "For --dynamic_method: 2 or more for sv_ratio, 0 to 1 for the others, such as 0.9.", at_least=0, at_most=MOST_WEIGHT
    )
    device: str | None = opt(None, _DEVICE)


@dataclass(frozen=True)
class ResizeLora(Tool):
    """Make a LoRA smaller: the best approximation of a lower rank, fixed or chosen module by module."""

    name: ClassVar[str] = "networks/resize_lora.py"
    required: ClassVar[tuple[str, ...]] = ("model", "save_to")

    resize: ResizeLoraOptions
    output: LoraOutputOptions
    receipt: ReceiptOptions


@dataclass(frozen=True)
class ExtractLoraOptions:
    """What is extracted"""

    model_org: str = needed("The model that training started from: a checkpoint, a Diffusers folder or a hub id.", path="model")
    model_tuned: str = needed("The model after training.", path="model")
    v2: bool = opt(False, "Both are Stable Diffusion 2.x.")
    v_parameterization: bool = opt(False, "Both predict velocity (768-v): recorded in the metadata of the LoRA.")
    load_precision: str | None = opt(
        None, "Round both models to this precision first. Default: no rounding, which is exact.", choices=PRECISIONS
    )
    load_original_model_to: str | None = opt(None, "Device for the weights of --model_org: cuda, cuda:1 or cpu. Default: cpu.")
    load_tuned_model_to: str | None = opt(None, "Device for those of --model_tuned and for the difference. Default: cpu.")
    dim: int = opt(4, "Rank of the new LoRA.", at_least=1, at_most=MOST_RANK)
    conv_dim: int | None = opt(None, "Include convolutions, 3x3 ones with this rank. Default: none.", at_least=1, at_most=MOST_RANK)
    min_diff: float = opt(
        0.01, "Leave out the text encoder if none of its weights differs by more than this.", at_least=0, at_most=MOST_WEIGHT
    )
    clamp_quantile: float = opt(
        1.0,
        "Clamp the largest numbers of each module at this quantile, such as 0.99, as other tools do; 1 clamps nothing and is exact.",
        at_least=0,
        at_most=1,
    )
    device: str | None = opt(None, _DEVICE)


@dataclass(frozen=True)
class ExtractLora(Tool):
    """Extract a LoRA from the difference between two models."""

    name: ClassVar[str] = "networks/extract_lora_from_models.py"
    required: ClassVar[tuple[str, ...]] = ("model_org", "model_tuned", "save_to")

    extract: ExtractLoraOptions
    output: LoraOutputOptions
    receipt: ReceiptOptions


@dataclass(frozen=True)
class ExtractDyloraOptions:
    """What is extracted"""

    model: Path = needed("The file that networks.dylora trained.", path="file")
    save_to: Path = needed("The LoRAs to write; each rank is added before the extension: name-4.safetensors.", path="new weights")
    unit: int | None = opt(
        None,
        "Write one LoRA for each multiple of this below the full rank; use the unit of the training or a multiple of it.",
        at_least=1,
        at_most=MOST_RANK,
    )
    rank: tuple[int, ...] = opt((), "Write only LoRAs of these ranks.", at_least=1, at_most=MOST_RANK)
    save_precision: str | None = opt(None, "Precision of the files. Default: as in --model.", choices=PRECISIONS)


@dataclass(frozen=True)
class ExtractDylora(Tool):
    """Extract LoRAs of chosen ranks from a DyLoRA."""

    name: ClassVar[str] = "networks/extract_lora_from_dylora.py"
    required: ClassVar[tuple[str, ...]] = ("model", "save_to")

    extract: ExtractDyloraOptions


@dataclass(frozen=True)
class CheckLoraOptions:
    """What is checked"""

    file: Path = word("The network file to check.", path="file")
    show_all_keys: bool = opt(False, "First list every tensor with its shape and its mean and smallest absolute value.", aliases=("s",))
    verbose: bool = opt(False, "Print a line for every module, not only for the largest, the smallest and damaged ones.")


@dataclass(frozen=True)
class CheckLora(Tool):
    """Check a LoRA file: what it contains, whether it is intact, and which programs load it."""

    name: ClassVar[str] = "networks/check_lora_weights.py"

    check: CheckLoraOptions


LORA_TOOLS = (MergeLora, SvdMergeLora, ResizeLora, ExtractLora, ExtractDylora, CheckLora)
