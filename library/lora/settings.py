"""The LoRA settings of the user (`--network_dim`, `--network_alpha`, `--network_dropout`, `--network_args`): parsed, checked, with
defaults."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from library.console import log
from library.errors import Problem, UserError, coded
from library.lora.blocks import BLOCKS, MIDDLE, SIDE, block_index, parse_numbers, parse_side_weights
from library.lora.layers import Dropouts, Target
from library.lora.variants.patterns import TEXT_PATH, RankPatterns, read_patterns
from library.options.bounds import MOST_RANK, MOST_WEIGHT
from library.words import cut, quoted

DEFAULT_DIM = 4

_DROPOUT_KEYS = ("dropout", "rank_dropout", "module_dropout")
_BLOCK_KEYS = ("conv_dim", "conv_alpha", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
_SIZE_KEYS = (*_BLOCK_KEYS, "network_reg_dims", "rs_lora")
_LR_KEYS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
_PLUS_KEYS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
KEYS = (*_SIZE_KEYS, *_LR_KEYS, *_DROPOUT_KEYS, *_PLUS_KEYS)
OF_A_KIND = {"init": "networks.lora", "unit": "networks.dylora", "wd_on_output": "networks.dora"}  # read only by that module
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Rank:
    """The size of one LoRA layer."""

    dim: int
    alpha: float


@dataclass(frozen=True)
class UpRatios:
    """The factor of the learning rate for the up matrices, by part (LoRA+); 1 is plain LoRA."""

    unet: float = 1.0
    text_encoder: float = 1.0


@dataclass(frozen=True)
class LoRASettings:
    """Sizes and learning rate weights by block. `blocks` and `conv_blocks` contain a Rank (dim 0: no layer there) for each of the 25
    blocks, `conv_blocks` is None without 3×3 convolutions; `lr_weights` has one factor per block, None without block learning rates.
    Modules that match a pattern have its rank and the alpha of all (0: the same as the rank); `by_root` scales by alpha/√rank."""

    text_encoder: Rank
    blocks: tuple[Rank, ...]
    conv_blocks: tuple[Rank, ...] | None
    lr_weights: tuple[float, ...] | None
    dropouts: Dropouts
    up_ratios: UpRatios
    alpha: float
    patterns: RankPatterns
    by_root: bool

    def rank(self, target: Target, in_unet: bool) -> Rank | None:
        """Return the layer size for a module of the U-Net or a text encoder; None if it gets no layer."""
        if (rank := self._plain_rank(target, in_unet)) is None:
            return None
        if (dim := self.patterns.rank(target.path if in_unet else TEXT_PATH + target.path)) is not None:
            rank = _rank(dim, self.alpha)
        if not rank.dim:
            return None
        return Rank(rank.dim, rank.alpha * math.sqrt(rank.dim)) if self.by_root else rank  # rsLoRA (Kalajdzievski 2023, theorem 3.2)

    def refuse_idle_patterns(self, targets: Iterable[tuple[Target, bool]]) -> None:
        """Raise UserError if a pattern matches none of the modules that have a layer without it."""
        patched = [(target, in_unet) for target, in_unet in targets if self._plain_rank(target, in_unet) is not None]
        self.patterns.refuse_idle([target.path if in_unet else TEXT_PATH + target.path for target, in_unet in patched])

    def _plain_rank(self, target: Target, in_unet: bool) -> Rank | None:
        """Return the layer size without patterns."""
        if not in_unet:
            return self.text_encoder
        if target.outside or (target.extended and self.conv_blocks is None):
            return None
        index = block_index(target.path)
        if self.lr_weights is not None and self.lr_weights[index] == 0:
            return None
        ranks = self.conv_blocks if target.is_wide_convolution else self.blocks
        return ranks[index] if ranks is not None and ranks[index].dim else None


def read_settings(
    network_dim: int | None, network_alpha: float | None, neuron_dropout: float | None, args: Mapping[str, object]
) -> LoRASettings:
    """Fill in defaults and check every value; the UserError lists all errors at once. An alpha of None or 0 means alpha = dim."""
    reader = _Reader(args)
    dim = DEFAULT_DIM if network_dim is None else network_dim
    if not 1 <= dim <= MOST_RANK:
        reader.problems.append(coded("LORA-008", f"--network_dim {dim}: a rank from 1 to {MOST_RANK} is expected"))
        dim = DEFAULT_DIM
    alpha = float(network_alpha or 0)
    if alpha < 0 or not math.isfinite(alpha):
        reader.problems.append(
            coded("LORA-008", f"--network_alpha {network_alpha}: a number of at least 0 is expected (0 means the same as --network_dim)")
        )
    conv_dim, conv_alpha = reader.value("conv_dim", _whole, None), reader.value("conv_alpha", _positive, 1.0)
    dims, alphas = reader.value("block_dims", _whole_list, [dim] * BLOCKS), reader.value("block_alphas", _positive_list, [alpha] * BLOCKS)
    conv_dims = reader.value("conv_block_dims", _whole_list, [conv_dim] * BLOCKS if conv_dim else None)
    conv_alphas = reader.value("conv_block_alphas", _positive_list, [conv_alpha] * BLOCKS)
    if conv_dims is None:
        for key in {"conv_alpha", "conv_block_alphas"} & reader.present:
            reader.problems.append(
                coded("LORA-007", f"--network_args {key}: has no effect without conv_dim or conv_block_dims; add one of them")
            )
    settings = LoRASettings(
        text_encoder=_rank(dim, alpha),
        blocks=tuple(map(_rank, dims, alphas)),
        conv_blocks=None if conv_dims is None else tuple(map(_rank, conv_dims, conv_alphas)),
        lr_weights=_lr_weights(reader),
        dropouts=_dropouts(reader, neuron_dropout),
        up_ratios=_up_ratios(reader),
        alpha=alpha,
        patterns=reader.value("network_reg_dims", _patterns, RankPatterns()),
        by_root=reader.value("rs_lora", yes_or_no, False),
    )
    reader.finish()
    return settings


def read_file_settings(neuron_dropout: object, args: Mapping[str, object]) -> tuple[tuple[float, ...] | None, Dropouts, UpRatios]:
    """Read block learning rate weights, dropouts and LoRA+ ratios of a network whose sizes come from a file; the file's sizes override
    `args`."""
    reader = _Reader(args)
    for key in sorted(reader.present & set(_SIZE_KEYS)):
        log.warning("--network_args %s is not used: the sizes are taken from the file", key)
    weights, dropouts, ratios = _lr_weights(reader), _dropouts(reader, neuron_dropout), _up_ratios(reader)
    reader.finish()
    return weights, dropouts, ratios


def rate_factor(target: Target, lr_weights: tuple[float, ...]) -> float:
    """The factor of the learning rate at a target in the U-Net: that of its block, 1 outside of all blocks."""
    return 1.0 if target.outside else lr_weights[block_index(target.path)]


Read = TypeVar("Read")
Default = TypeVar("Default")


class _Reader:
    """Reads the entries of `--network_args` and collects their errors."""

    def __init__(self, args: Mapping[str, object]) -> None:
        self.problems: list[Problem] = []
        self.args = {key: str(value) for key, value in args.items() if value is not None and str(value).strip() not in ("", "None")}
        self.present = set(self.args)
        for key in args:
            if key in OF_A_KIND:
                message = f"--network_args {key}: only {OF_A_KIND[key]} has it; remove it, or use --network_module {OF_A_KIND[key]}"
                self.problems.append(coded("LORA-007", message))
            elif key not in KEYS:
                near = difflib.get_close_matches(key, (*KEYS, *OF_A_KIND), 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join((*KEYS, *OF_A_KIND))}"
                self.problems.append(coded("LORA-007", f"--network_args {key}: is unknown to networks.lora; {hint}"))

    def value(self, key: str, read: Callable[[str], Read], default: Default) -> Read | Default:
        """Parse the entry with `read`; returns `default` if it is absent or invalid."""
        if key not in self.args:
            return default
        try:
            return read(self.args[key])
        except ValueError as fault:
            self.problems.append(coded("LORA-008", f"--network_args {key}={cut(self.args[key])}: {fault}"))
            return default

    def finish(self) -> None:
        if self.problems:
            raise UserError(*self.problems)


def _rank(dim: int, alpha: float) -> Rank:
    return Rank(dim, alpha or float(dim))


def _lr_weights(reader: _Reader) -> tuple[float, ...] | None:
    down, up = (_side_weights(reader, key) for key in ("down_lr_weight", "up_lr_weight"))
    middle = reader.value("mid_lr_weight", _number, None)
    threshold = reader.value("block_lr_zero_threshold", _number, 0.0)
    if down is None and up is None and middle is None:
        if "block_lr_zero_threshold" in reader.present:
            log.warning("--network_args block_lr_zero_threshold: has no effect without down_lr_weight, mid_lr_weight or up_lr_weight")
        return None
    weights = [*(down or [1.0] * SIDE), 1.0 if middle is None else middle, *(up or [1.0] * SIDE)]
    assert len(weights) == BLOCKS and weights[MIDDLE] in (1.0, middle)
    return tuple(weight if weight > threshold else 0.0 for weight in weights)


def _side_weights(reader: _Reader, key: str) -> list[float] | None:
    weights = reader.value(key, parse_side_weights, None)
    if weights is None or len(weights) == SIDE:
        return weights
    # Accepted for compatibility with existing commands, with a warning.
    log.warning("--network_args %s: %d weights are expected, not %d; missing ones are 1, extra ones are ignored", key, SIDE, len(weights))
    return (weights + [1.0] * SIDE)[:SIDE]


def _dropouts(reader: _Reader, neuron_dropout: object) -> Dropouts:
    """`dropout` in the arguments is the name of `--network_dropout` in other network modules; the option wins."""
    values = {key: reader.value(key, _probability, 0.0) for key in _DROPOUT_KEYS}
    if neuron_dropout is not None:
        try:
            values["dropout"] = _probability(str(neuron_dropout))
        except ValueError as fault:
            reader.problems.append(coded("LORA-008", f"--network_dropout {neuron_dropout}: {fault}"))
    return Dropouts(neuron=values["dropout"], rank=values["rank_dropout"], module=values["module_dropout"])


def _up_ratios(reader: _Reader) -> UpRatios:
    """A part's own ratio, else the common one, else 1; 0 means not set, as in sd-scripts."""
    both, unet, text_encoder = (reader.value(key, _positive, 0.0) for key in _PLUS_KEYS)
    return UpRatios(unet or both or 1.0, text_encoder or both or 1.0)


def _number(text: str) -> float:
    numbers = parse_numbers(text)
    if len(numbers) != 1:
        raise ValueError("one number is expected")
    return numbers[0]


def _positive(text: str) -> float:
    if not 0 <= (number := _number(text)) <= MOST_WEIGHT:
        raise ValueError(f"a number from 0 to {MOST_WEIGHT} is expected")
    return number


def _probability(text: str) -> float:
    if not 0 <= (number := _number(text)) < 1:
        raise ValueError("a probability of at least 0 and under 1 is expected")
    return number


def _whole(text: str) -> int:
    number = _positive(text)
    if number != int(number):
        raise ValueError(f"{quoted(text.strip())} is not a whole number")
    if number > MOST_RANK:
        raise ValueError(f"a whole number from 0 to {MOST_RANK} is expected")
    return int(number)


def _patterns(text: str) -> RankPatterns:
    patterns = read_patterns(text)
    if any(rank > MOST_RANK for _, rank in patterns.ranks):
        raise ValueError(f"ranks from 0 (no layer) to {MOST_RANK} are expected")
    return patterns


def yes_or_no(text: str) -> bool:
    """Parse True or False as words or as 1 and 0; ValueError for anything else."""
    if (word := text.strip().lower()) not in _WORDS:
        raise ValueError("True or False is expected")
    return _WORDS[word]


def _positive_list(text: str) -> list[float]:
    entries = text.split(",")
    if len(entries) != BLOCKS:
        raise ValueError(f"{BLOCKS} numbers are expected ({SIDE} down, 1 middle, {SIDE} up), {len(entries)} are given")
    return [_positive(entry) for entry in entries]


def _whole_list(text: str) -> list[int]:
    _positive_list(text)
    return [_whole(entry) for entry in text.split(",")]
