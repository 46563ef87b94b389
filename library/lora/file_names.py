"""What tensor names in files of LoRA and related kinds mean, for all programs: the module's key and the kind of tensor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from library.lora.layers import STABLE_DIFFUSION, TEXT_ENCODER

LORA = frozenset({"lora_down.weight", "lora_up.weight"})
LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
FULL = frozenset({"diff"})
NORM = frozenset({"w_norm"})
IA3 = frozenset({"weight", "on_input"})
DORA_SCALE, DORA_MAGNITUDE = "dora_scale", "dora_magnitude"  # LyCORIS' and PEFT's
DORA = frozenset({DORA_SCALE, DORA_MAGNITUDE})
BIASES = frozenset({"diff_b", "b_norm", "lora_up.bias"})  # added to a bias
KINDS = LORA | LOHA | FULL | NORM | IA3 | BIASES | {"alpha", "lora_mid.weight", "hada_t1", "hada_t2", DORA_SCALE}
FAMILIES = (LORA | {"lora_mid.weight"}, LOHA | {"hada_t1", "hada_t2"}, FULL, NORM, IA3)  # tensors of one kind of module
_LOKR = re.compile(r"lokr_(w[12](_[ab])?|t2)")
EMBEDDING = "bundle_emb."  # a Textual Inversion embedding that OneTrainer and web UIs store in a LoRA's file

_PEFT_HEAD = "base_model.model."
_PARTS = ("unet.", "text_encoder.")
_UNET_HEADS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding.")
_TEXT_HEADS = ("text_model.", "encoder.layers.")
_ADAPTER = r"(?:\.(?!weight$|bias$)[\w-]+)?"  # PEFT's name of the adapter
_ENDS = re.compile(
    rf"(?P<path>.+?)\.(?:lora_(?P<letter>[AB]){_ADAPTER}\.(?P<of>weight|bias)"  # PEFT
    r"|(?:lora\.|lora_linear_layer\.|lora_)(?P<side>down|up)\.weight"  # Diffusers
    rf"|(?P<magnitude>lora_magnitude_vector){_ADAPTER}(?:\.weight)?"
    r"|(?:processor\.)?to_(?P<old>[qkv]|out)_lora\.(?:(?P<old_side>down|up)\.weight|(?P<old_alpha>alpha))"  # its processors of 2023
    r"|(?:lora\.|lora_linear_layer\.)?(?P<alpha>alpha))"
)
_SIDES = {"A": "lora_down", "B": "lora_up", "down": "lora_down", "up": "lora_up"}
_OLD_TEXT_NAMES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


@dataclass(frozen=True)
class TensorName:
    """`kind` is one of KINDS, LoKr's, or PEFT's magnitude; `part` and `path` locate the module, for names of Diffusers and PEFT."""

    key: str
    kind: str
    part: str | None = None  # "unet" or "text_encoder"
    path: str | None = None

    @property
    def foreign(self) -> bool:
        """Whether the name is that of Diffusers or PEFT."""
        return self.part is not None


def read_name(name: str) -> TensorName | None:
    """Parse a tensor name; None for an unknown kind."""
    key, _, kind = name.partition(".")
    if key.startswith("lora_") and (kind in KINDS or _LOKR.fullmatch(kind)):
        return TensorName(key, kind)
    match = _ENDS.fullmatch(name)
    if match is None or (match["of"] == "bias" and match["letter"] == "A"):
        return None
    if match["path"].startswith("lora_") and "." not in match["path"]:  # PEFT's tensors under web UI keys
        return TensorName(match["path"], _kind(match))
    place = _part(match["path"])
    return None if place is None else _foreign(match, *place)


def _kind(match: re.Match[str]) -> str:
    if match["magnitude"]:
        return DORA_MAGNITUDE
    if match["alpha"] or match["old_alpha"]:
        return "alpha"
    return f"{_SIDES[match['letter'] or match['side'] or match['old_side']]}.{match['of'] or 'weight'}"


def _part(path: str) -> tuple[str, str] | None:
    """Return (part, path in it) of a module; None if it is in neither part."""
    part = None
    while True:  # old versions of Diffusers wrote `unet.unet.`
        if path.startswith(_PEFT_HEAD):
            path = path.removeprefix(_PEFT_HEAD)
        elif said := next((head for head in _PARTS if path.startswith(head)), None):
            part, path = said[:-1], path.removeprefix(said)
        else:
            break
    if part is not None:
        return part, path
    if f"{path}.".startswith(_UNET_HEADS):
        return "unet", path
    return ("text_encoder", path) if path.startswith(_TEXT_HEADS) else None


def _foreign(match: re.Match[str], part: str, path: str) -> TensorName:
    if match["old"] and part == "unet":
        path = f"{path}.to_{match['old']}"
    elif match["old"]:
        path = f"{path}.{_OLD_TEXT_NAMES[match['old']]}"
    path = re.sub(r"\.to_out$", ".to_out.0", path)
    if part == "unet":
        return TensorName(STABLE_DIFFUSION.unet + path.replace(".", "_"), _kind(match), part, path)
    path = path.removeprefix("text_model.")
    return TensorName(TEXT_ENCODER + path.replace(".", "_"), _kind(match), part, path)


def bundled_word(name: str) -> str | None:
    """Return the word whose vectors a tensor in a network's file contains (`bundle_emb.WORD.…`); None for any other tensor."""
    return name.removeprefix(EMBEDDING).partition(".")[0] if name.startswith(EMBEDDING) else None


def is_whole(kinds: frozenset[str]) -> bool:
    """Whether these tensors form a module with an effect."""
    if any(kind.startswith("lokr_") for kind in kinds):
        return all(f"lokr_{w}" in kinds or {f"lokr_{w}_a", f"lokr_{w}_b"} <= kinds for w in ("w1", "w2"))
    return any(needed <= kinds for needed in (LORA, LOHA, FULL, NORM, IA3))
