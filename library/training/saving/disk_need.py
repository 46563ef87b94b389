"""How much room the files of a run take, worked out from the model's header before anything is loaded."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from library.data.batching.buckets import FilledData
from library.model.family import FAMILIES, ModelFamily, PartSizes
from library.model.files.facts import OPTION, ModelFacts
from library.model.files.keys import UNET, VAE
from library.model.files.weights_file import TensorInfo, open_weights
from library.options.groups.network import NetworkOptions
from library.options.groups.saving import SavingOptions
from library.options.groups.scripts import FullModelScript, TrainingScript, TrainNetwork, TrainTextualInversion
from library.training.optim.optimizer_table import chosen_name, state_bytes
from library.training.planning.plan import RunPlan
from library.training.saving.checkpointer import FileNames, Kept
from library.training.saving.disk_room import most_bytes, saves
from library.words import in_words

Shapes = Mapping[str, TensorInfo]

_TEXT = tuple(encoder.prefix for family in FAMILIES.values() for encoder in family.text_encoders)
_OPEN_CLIP = tuple(e.prefix for family in FAMILIES.values() for e in family.text_encoders if e.layout == "open_clip")
_WEIGHT_BYTES = {"float": 4, "fp16": 2, "bf16": 2}
_LATENT_BYTES = {"distribution": 8 * 4, "mean": 4 * 4}  # 4 channels in float32, with their log variance or not, for each 8×8 pixels
_PATCHED = (
    re.compile(r"\.(?:transformer_blocks\..*\.(?:to_[qkv]|to_out\.0|net\.0\.proj|net\.2)|proj_in|proj_out)\.weight$"),  # U-Net
    re.compile(r"\.(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12]|attn\.out_proj|mlp\.c_(?:fc|proj))\.weight$"),  # text encoders
)
_FUSED = "attn.in_proj_weight"  # three projections in one, in v2's text encoder
_WIDE = re.compile(r"\.(?:in_layers\.2|out_layers\.3|op|conv)\.weight$")  # 3×3 convolutions of residual blocks and of changes in size
_EXTENDED = re.compile(r"\.(?:emb_layers\.1|skip_connection)\.weight$")  # the rest of the residual blocks


@dataclass(frozen=True)
class DiskNeed:
    """Bytes of the folder of results when it is fullest, None where a size is not known beforehand; `lines` tell how it comes about."""

    total: int | None
    free: int
    folder: Path
    lines: tuple[str, ...]


def part_sizes(infos: Shapes) -> PartSizes:
    """Counted in the header of an original-layout file."""
    counts = dict.fromkeys(PartSizes.__annotations__, 0)
    unused = _unused_layer(infos)
    for name, info in infos.items():
        part = "unet" if name.startswith(UNET) else "vae" if name.startswith(VAE) else "text_encoder"
        if part == "text_encoder" and not name.startswith(_TEXT):
            continue
        counts[part] += math.prod(info.shape)
        if part == "vae" or len(info.shape) < 2 or (unused and name.startswith(unused)):
            continue
        out, inner, *kernel = info.shape
        if any(pattern.search(name) for pattern in _PATCHED):
            counts[f"lora_{part}"] += out + inner
        elif name.endswith(_FUSED):
            counts["lora_text_encoder"] += out + 3 * inner
        elif part == "unet" and _WIDE.search(name):
            counts["lora_wide"] += out + inner * math.prod(kernel)
        elif part == "unet" and _EXTENDED.search(name):
            counts["lora_extended"] += out + inner
    return PartSizes(**counts)


def _unused_layer(infos: Shapes) -> str | None:
    """The last layer of an OpenCLIP text encoder: it is in the file, and not in the model."""
    for prefix in _OPEN_CLIP:
        layers = {int(match[1]) for name in infos if (match := re.match(re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.", name))}
        if layers:
            return f"{prefix}transformer.resblocks.{max(layers)}."
    return None


def disk_need(options: TrainingScript, facts: ModelFacts, plan: RunPlan, filled: FilledData) -> DiskNeed:
    """What the run's files need.

    Raises UserError when the model's header cannot be read.
    """
    # a folder's parts lie in several files: it counts as a released model
    sizes = facts.family.sizes if facts.layout == "diffusers" else part_sizes(open_weights(facts.path, OPTION).infos)
    saving, data = options.saving, options.data
    product, trained = _product(options, sizes, facts.family)
    width = _WEIGHT_BYTES[saving.save_precision or "float"]
    lines: list[str] = []
    totals: list[int | None] = []
    files = _at_a_time(plan, saving, of_states=False)
    if product is None:
        module = options.network.network_module if isinstance(options, TrainNetwork) else None
        lines.append(f"files: {files}, of a size that only {module} knows")
        totals.append(None)
    else:
        lines.append(f"files: {files} × {in_words(product * width)} = {in_words(files * product * width)}")
        totals.append(files * product * width)
    if (saving.save_state or saving.save_state_on_train_end) and trained is not None:
        states = _at_a_time(plan, saving, of_states=True)
        each = round(trained * (4 + state_bytes(chosen_name(options.optimizer))))
        lines.append(f"states: {states} × {in_words(each)} = {in_words(states * each)}")
        totals.append(states * each)
    if data.cache_latents or data.cache_latents_to_disk:
        latents = _latents(filled, data.cache_latents_kind)
        where = "disk, beside the images" if data.cache_latents_to_disk else "main memory"
        lines.append(f"latents: {in_words(latents)} of {where}")
    folder = saving.folder
    free = shutil.disk_usage(next(part for part in (folder, *folder.absolute().parents) if part.exists())).free
    known = [total for total in totals if total is not None]
    return DiskNeed(sum(known) if len(known) == len(totals) else None, free, folder, tuple(lines))


def _product(options: TrainingScript, sizes: PartSizes, family: ModelFamily) -> tuple[int | None, int | None]:
    """Weights of the product, and of what is trained; None where they are not known beforehand."""
    if isinstance(options, TrainTextualInversion):
        vectors = options.word.num_vectors_per_token * family.text_encoders[0].width * options.layers_with_vectors
        return vectors, vectors
    if isinstance(options, TrainNetwork):
        count = _lora(options.network, sizes) if options.network.network_module == "networks.lora" else None
        return count, count
    text = isinstance(options, FullModelScript) and options.trains_text_encoder
    return sizes.unet + sizes.text_encoder + sizes.vae, sizes.unet + (sizes.text_encoder if text else 0)


def _lora(options: NetworkOptions, sizes: PartSizes) -> int:
    """One rank for all blocks: what `block_dims` change is not counted."""
    args = dict(part.split("=", 1) for part in options.network_args if "=" in part)
    dim, conv_dim = options.network_dim or 4, args.get("conv_dim", "0")
    count = 0 if options.network_train_text_encoder_only else sizes.lora_unet * dim
    if count and conv_dim.isdigit() and int(conv_dim):
        count += sizes.lora_wide * int(conv_dim) + sizes.lora_extended * dim
    return count + (0 if options.network_train_unet_only else sizes.lora_text_encoder * dim)


def _at_a_time(plan: RunPlan, options: SavingOptions, of_states: bool) -> int:
    """How many there are at most at one time, the one under way before an old one goes among them, and the last one."""
    epochs, steps = options.save_last_n_epochs, options.save_last_n_steps
    if of_states:
        epochs, steps = options.save_last_n_epochs_state or epochs, options.save_last_n_steps_state or steps
    names = FileNames(options.folder, options.output_name, "")
    with_saves = options.save_state if of_states else True
    kind = Kept(names, lambda *_: None, epochs, steps, with_saves, bytes=1)  # asked for its names and its retention; it writes nothing
    return most_bytes(saves(plan, [kind]))


def _latents(filled: FilledData, kind: str) -> int:
    pixels = sum(
        placement.bucket[0] * placement.bucket[1] * (2 if record.subset.flip_aug else 1)
        for record, placement in zip(filled.records, filled.placements, strict=True)
    )
    return pixels // 64 * _LATENT_BYTES[kind]
