"""The contents and health of a network file: its modules, their norms and errors, and which programs load it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from library.lora.file_names import DORA, LOHA, LORA, bundled_word
from library.lora.files import is_finite
from library.lora.layers import STABLE_DIFFUSION
from library.lora.low_rank import flat, module_norm, svd_of_product, true_rank
from library.model.family import FAMILIES
from library.surgery.deltas import own_delta
from library.surgery.network_file import NetworkFile
from library.words import counted, verb

NON_FINITE, DEAD = "not finite", "dead"
HUGE = 100.0  # times the median norm
SUBNORMAL = 6.1e-5  # smallest number that fp16 stores with full precision
_BY_MARK = (("diff", "full"), ("w_norm", "norm"), ("on_input", "IA3"))
_WITHOUT_ALPHA = ("full", "norm", "IA3")
SAID_IN_FULL = 8  # modules named per finding


@dataclass(frozen=True)
class Module:
    """One module: `norm` = ‖ΔW‖ at strength 1, `used` = how many of its ranks have an effect (None for kinds other than LoRA)."""

    key: str
    kind: str
    rank: int
    alpha: float | None  # None: not in the file, so programs use the rank
    norm: float
    mean: float  # of the absolute values of its numbers
    used: int | None
    fault: str | None  # NON_FINITE, DEAD or None


def modules_of(network: NetworkFile) -> Iterator[Module]:
    """Yield every module with its figures, one in memory at a time."""
    for key, kinds in network.modules.items():
        tensors = network.tensors(key)
        numbers = {kind: tensor for kind, tensor in tensors.items() if kind != "alpha"}
        alpha = float(tensors["alpha"]) if "alpha" in tensors else network.alphas.get(key)
        finite = all(map(is_finite, tensors.values()))
        size = sum(tensor.numel() for tensor in numbers.values())
        mean = sum(float(tensor.float().abs().sum()) for tensor in numbers.values()) / size
        norm, used = float("nan"), None
        if finite and network.is_lora(key):
            module = network.lora(key)
            norm, used = module_norm(module), true_rank(svd_of_product(*flat(module))[1])
        elif finite:
            norm = float(own_delta(network, key).norm())
        fault = NON_FINITE if not finite else DEAD if norm == 0 else None
        yield Module(key, kind_of(kinds), _rank(network, key), alpha, norm, mean, used, fault)


def kind_of(kinds: Mapping[str, str]) -> str:
    """LoRA, LoCon (a LoRA of a convolution in CP form), DoRA, LoHa, LoKr, IA3, norm or full."""
    if not DORA.isdisjoint(kinds):
        return "DoRA"
    if kinds.keys() >= LORA:
        return "LoRA" if "lora_mid.weight" not in kinds else "LoCon (CP)"
    if kinds.keys() >= LOHA:
        return "LoHa"
    return next((name for mark, name in _BY_MARK if mark in kinds), "LoKr")


def _rank(network: NetworkFile, key: str) -> int:
    kinds = network.modules[key]
    for kind, axis in (("lora_up.weight", 1), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
        if kind in kinds:
            return network.info(key, kind).shape[axis]
    return 0


def findings(network: NetworkFile, modules: Sequence[Module]) -> list[str]:
    """What a user should know, worst first; empty for a healthy file."""
    lines = []
    for fault, has, have, meaning in (
        (
            NON_FINITE,
            "has",
            "have",
            "numbers that are not finite: images will be black or noise; use an earlier save, or a lower learning rate",
        ),
        (DEAD, "has", "have", "no effect (a factor is zero): not trained, or with a learning rate of 0"),
    ):
        if keys := [module.key for module in modules if module.fault == fault]:
            lines.append(f"{len(keys)} of {counted(len(modules), 'module')} {verb(len(keys), has, have)} {meaning}: {_named(keys)}")
    lines += list(_rank_findings(modules))
    sound = sorted(module.norm for module in modules if module.fault is None)
    if sound and (keys := [module.key for module in modules if module.norm > HUGE * sound[len(sound) // 2]]):
        change = counted(len(keys), "module changes its", "modules change their")
        lines.append(f"{change} weight more than {HUGE:g} times as much as the median does: {_named(keys)}")
    if small := [key for key in network.modules if _tiny_alpha(network, key)]:
        lines.append(f"{_have(small)} an alpha that fp16 cannot represent well: {_named(small)}")
    return lines


def _tiny_alpha(network: NetworkFile, key: str) -> bool:
    if "alpha" not in network.modules[key] or network.info(key, "alpha").dtype != "F16":
        return False
    ((_, alpha),) = network.file.read([network.modules[key]["alpha"]])
    return 0 < float(alpha) < SUBNORMAL


def _rank_findings(modules: Sequence[Module]) -> Iterator[str]:
    without = [module.key for module in modules if module.alpha is None and module.kind not in _WITHOUT_ALPHA]
    if without:
        yield f"{_have(without)} no alpha; programs use the rank instead: {_named(without)}"
    if over := [module.key for module in modules if module.alpha is not None and module.rank and module.alpha > 4 * module.rank]:
        yield f"{_have(over)} an alpha of more than four times the rank: {_named(over)}"
    if zero := [module.key for module in modules if module.alpha == 0]:
        yield f"{_have(zero)} alpha 0, which turns {verb(len(zero), 'it', 'them')} off: {_named(zero)}"
    low = [module for module in modules if module.used is not None and 0 < module.used < module.rank]
    if low:
        largest = max(module.used or 0 for module in low)
        yield (
            f"{counted(len(low), 'module uses fewer ranks than it has', 'modules use fewer ranks than they have')} (at "
            f"most {largest} of {max(module.rank for module in low)}): "
            f"networks/resize_lora.py makes the file smaller without loss: {_named([module.key for module in low])}"
        )


def _have(keys: Sequence[str]) -> str:
    return counted(len(keys), "module has", "modules have")


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:SAID_IN_FULL])
    return shown if len(keys) <= SAID_IN_FULL else f"{shown} … and {len(keys) - SAID_IN_FULL} more"


@dataclass(frozen=True)
class Loads:
    """Whether a program loads the file, with the reason or a remark."""

    program: str
    loads: bool
    remark: str


def programs(network: NetworkFile) -> list[Loads]:
    """Which programs load a file with these names and kinds. Judged by the names that each program documents; nothing is run."""
    kinds = {kind_of(names) for names in network.modules.values()}
    foreign = network.foreign
    base = base_model(network)
    convolutions = any(_is_convolution(network, key) for key in network.modules)
    plain = kinds <= {"LoRA"}
    of_diffusers = plain or (foreign and kinds <= {"LoRA", "DoRA"})
    if base.startswith(("SDXL", "FLUX", "unknown")):
        return [Loads("this suite (networks.lora)", False, f"the modules are those of another model ({base})")]
    others = ", ".join(sorted(kinds - {"LoRA"}))
    words = any(bundled_word(name) is not None for name in network.file.infos)
    refused = "refuses the words in it: train with --save_words side" if words else ""
    for_models = f"{others}: merging into a model only"
    with_conv = " (with convolutions: --network_args conv_dim=… or --dim_from_weights)" if convolutions and plain else ""
    return [
        Loads("this suite, networks.lora", plain, with_conv.strip() or others),
        *([Loads("this suite, networks.dora", True, "")] if _only_dora(network) else []),
        Loads("this suite, networks/ tools", True, "" if plain else for_models),
        Loads("LyCORIS (lycoris.kohya)", not foreign, "names of Diffusers/PEFT" if foreign else ""),
        Loads("AUTOMATIC1111 web UI", not foreign, "names of Diffusers/PEFT" if foreign else "" if plain else "version 1.5 and later"),
        Loads("ComfyUI", True, "without the words in it" if words else ""),
        Loads("Diffusers (load_lora_weights)", of_diffusers and not words, refused if of_diffusers else f"{others} is not read"),
    ]


def _only_dora(network: NetworkFile) -> bool:
    """Whether all modules are plain LoRAs, some with magnitudes."""
    plain = all(kinds.keys() >= LORA and kinds.keys() <= LORA | DORA | {"alpha"} for kinds in network.modules.values())
    return plain and any(map(network.is_dora, network.modules))


def base_model(network: NetworkFile) -> str:
    """The model family that the modules' names and sizes belong to."""
    keys = network.modules.keys()
    if any(key.startswith(("lora_te1_", "lora_te2_", "lora_unet_input_blocks_")) or "transformer_blocks_1_" in key for key in keys):
        return "SDXL"
    if any(key.startswith("lora_unet_double_blocks_") for key in keys):
        return "FLUX"
    if not all(key.startswith((STABLE_DIFFUSION.unet, *STABLE_DIFFUSION.text_encoders)) for key in keys):
        return "unknown"
    for key, kinds in network.modules.items():
        if key.endswith("attn2_to_k") and kinds.keys() >= LORA:
            width = network.info(key, "lora_down.weight").shape[1]
            return {family.unet.context_width: family.series for family in FAMILIES.values()}.get(
                width, f"Stable Diffusion with a text width of {width}"
            )
    return "Stable Diffusion 1.x or 2.x"


def _is_convolution(network: NetworkFile, key: str) -> bool:
    kinds = network.modules[key]
    return "lora_mid.weight" in kinds or (kinds.keys() >= LORA and network.info(key, "lora_down.weight").shape[2:] not in ((), (1, 1)))
