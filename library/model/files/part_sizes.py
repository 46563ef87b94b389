"""How many weights the parts of a model have, and a LoRA of rank 1 on each, counted in the header of its file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from library.containers.weights_file import TensorInfo
from library.model.family import FAMILIES, PartSizes
from library.model.files.keys import UNET, VAE

Shapes = Mapping[str, TensorInfo]

_TEXT = tuple(encoder.prefix for family in FAMILIES.values() for encoder in family.text_encoders)
_OPEN_CLIP = tuple(e.prefix for family in FAMILIES.values() for e in family.text_encoders if e.layout == "open_clip")
_PATCHED = (
    re.compile(r"\.(?:transformer_blocks\..*\.(?:to_[qkv]|to_out\.0|net\.0\.proj|net\.2)|proj_in|proj_out)\.weight$"),  # U-Net
    re.compile(r"\.(?:self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12]|attn\.out_proj|mlp\.c_(?:fc|proj))\.weight$"),  # text encoders
)
_NOT_LOADED = ("position_ids", "text_projection", "logit_scale")
_FUSED = "attn.in_proj_weight"  # three projections in one, in v2's text encoder
_WIDE = re.compile(r"\.(?:in_layers\.2|out_layers\.3|op|conv)\.weight$")  # 3×3 convolutions of residual blocks and of down- and upsampling
_EXTENDED = re.compile(r"\.(?:emb_layers\.1|skip_connection)\.weight$")  # the rest of the residual blocks


def part_sizes(infos: Shapes) -> PartSizes:
    """Count the weights in the header of an original-layout file."""
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


def loaded_text_encoder(infos: Shapes) -> int:
    """Return how many of its weights a loaded model has: files also contain positions, and OpenCLIP's a last layer and a projection."""
    unused = (*filter(None, [_unused_layer(infos)]),)
    names = (name for name in infos if name.startswith(_TEXT) and not name.startswith(unused) and not name.endswith(_NOT_LOADED))
    return sum(math.prod(infos[name].shape) for name in names)


def _unused_layer(infos: Shapes) -> str | None:
    """The last layer of an OpenCLIP text encoder: it is in the file but not in the model."""
    for prefix in _OPEN_CLIP:
        layers = {int(match[1]) for name in infos if (match := re.match(re.escape(prefix) + r"transformer\.resblocks\.(\d{1,3})\.", name))}
        if layers:
            return f"{prefix}transformer.resblocks.{max(layers)}."
    return None
