"""The difference of two models as a LoRA: for each weight the best approximation of the difference at a rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from library.console import log
from library.errors import UserError, coded
from library.lora.files import ModuleWeights, is_finite
from library.lora.low_rank import from_svd, on_cpu, svd_of_matrix, true_rank
from library.model.family import V2
from library.model.files import convert
from library.surgery.checkpoint import Checkpoint, Weight
from library.surgery.combine import Combined


@dataclass(frozen=True)
class ExtractSettings:
    """`conv_rank` None leaves out resnets, down- and upsamplers; `clamp_quantile` 1 clamps nothing."""

    rank: int
    conv_rank: int | None
    min_difference: float
    clamp_quantile: float
    device: str
    load_dtype: torch.dtype | None = None  # both models are rounded to it; None: unchanged
    original_device: str = "cpu"
    tuned_device: str = "cpu"
    predicts_velocity: bool = False


@dataclass
class Extraction:
    """What to extract: the weights that differ, and the squared differences that a LoRA cannot contain."""

    original: Mapping[str, Weight]
    tuned: Mapping[str, Weight]
    settings: ExtractSettings
    keys: list[str] = field(default_factory=list)

    def modules(self) -> Iterator[Extracted]:
        """Yield each module that differs, at its rank or, if lower, the rank of the difference."""
        for key in self.keys:
            difference = _difference(self.original[key], self.tuned[key], self.settings)
            wide = self.tuned[key].is_wide_convolution
            rank = self.settings.conv_rank if wide and self.settings.conv_rank else self.settings.rank
            yield _extracted(key, difference, rank, self.settings)


@dataclass(frozen=True)
class Extracted(Combined):
    """An extracted module, and the share ‖left-out singular values‖ / ‖all‖ that its rank alone costs."""

    left: float

    def note(self) -> str:
        return f"rank {self.module.rank}, of it left out by the rank {self.left:.2e}"


def plan_extraction(original: Checkpoint, tuned: Checkpoint, settings: ExtractSettings) -> Extraction:
    """Find the weights that differ; raises UserError if the models have different shapes or do not differ at all."""
    kinds = (original.facts.family, tuned.facts.family)
    if kinds[0] is not kinds[1]:
        raise UserError(
            coded("TOOL-007", f"--model_org is a {kinds[0].name} model and --model_tuned a {kinds[1].name} one; use two of a kind")
        )
    weights = _comparable(original.weights, tuned.weights)
    reached = {key for key in weights if tuned.weights[key].is_plain or (settings.conv_rank and tuned.weights[key].is_extended)}
    extraction = Extraction(original.weights, tuned.weights, settings)
    inside, outside, text_largest, text = 0.0, 0.0, 0.0, []
    for key in weights:
        difference = _difference(original.weights[key], tuned.weights[key], settings)
        square = float(difference.square().sum(dtype=torch.float64))
        if key not in reached:
            outside += square
        elif square:
            inside += square
            if tuned.weights[key].part == "text_encoder":
                text_largest = max(text_largest, float(difference.abs().max()))
                text.append(key)
            else:
                extraction.keys.append(key)
    if text and text_largest <= settings.min_difference:
        log.info(
            "the text encoders are alike (no weight differs by more than --min_diff %g), so they are left out", settings.min_difference
        )
    else:
        extraction.keys = [*text, *extraction.keys]
    if not extraction.keys:
        raise UserError(
            coded("TOOL-007", "--model_tuned: no weight that a LoRA can represent differs from --model_org; are they the same model?")
        )
    outside += _of_vectors(original, tuned)
    if not math.isfinite(outside):
        which = "--model_tuned" if all(map(is_finite, _vectors(original).values())) else "--model_org"
        raise UserError(
            coded("FILE-009", f"{which}: biases or norms have numbers that are not finite; the model is damaged, use another save of it")
        )
    share = math.sqrt(outside / (inside + outside))
    if share > 1e-3:
        remedy = "" if settings.conv_rank else "; --conv_dim includes the convolutions"
        log.warning("%.1f%% of the change (by norm) is in weights that this LoRA does not have%s", 100 * share, remedy)
    return extraction


def _comparable(original: Mapping[str, Weight], tuned: Mapping[str, Weight]) -> list[str]:
    missing = sorted(original.keys() ^ tuned.keys())
    if missing:
        raise UserError(coded("TOOL-007", f"--model_tuned: {missing[0]} is in only one of the models; they have different architectures"))
    for key in tuned:
        if original[key].shape != tuned[key].shape:
            raise UserError(
                coded(
                    "TOOL-007",
                    f"--model_tuned: {key} has shape {tuned[key].shape}, in --model_org {original[key].shape}; they cannot be compared",
                )
            )
    return list(tuned)


def _difference(original: Weight, tuned: Weight, settings: ExtractSettings) -> Tensor:
    """tuned − original in float32, computed on the tuned model's device and returned on the CPU."""
    before = _loaded(original, settings.load_dtype, settings.original_device)
    if settings.original_device != settings.tuned_device:
        before = _on(before, "cpu", settings.original_device)
        before = _on(before, settings.tuned_device, "cpu")
    difference = _on(_loaded(tuned, settings.load_dtype, settings.tuned_device) - before, "cpu", settings.tuned_device)
    if not is_finite(difference):
        which = "--model_tuned" if is_finite(original.read()) else "--model_org"
        raise UserError(
            coded("FILE-009", f"{which}: {tuned.key} contains numbers that are not finite; the model is damaged, use another save of it")
        )
    return difference


def _loaded(weight: Weight, dtype: torch.dtype | None, device: str) -> Tensor:
    tensor = weight.read()
    return _on(tensor if dtype is None else tensor.to(dtype), device, "cpu").float()


def _on(tensor: Tensor, device: str, now: str) -> Tensor:
    """Return the tensor, now on `now`, on `device`."""
    if device == now:
        return tensor
    return tensor.cpu() if device == "cpu" else tensor.to(device)


def _of_vectors(original: Checkpoint, tuned: Checkpoint) -> float:
    """The sum of squared differences of biases and norms, which a LoRA does not contain."""
    square = 0.0
    sides = [_vectors(original), _vectors(tuned)]
    for name in sides[0].keys() & sides[1].keys():
        one, other = (side[name] for side in sides)
        if one.shape == other.shape:
            square += float((one - other).square().sum(dtype=torch.float64))
    return square


def _vectors(model: Checkpoint) -> dict[tuple[str, str], Tensor]:
    """All biases and norms of U-Net and text encoder in float32; they are small."""
    vectors = {}
    for file, places in model.files:
        names = [name for name, place in places.items() if place.part != "vae" and len(file.infos[name].shape) == 1]
        for name, tensor in file.read(names):
            for ours, piece in convert.to_parts(places[name], tensor).items():
                vectors[places[name].part, ours] = piece.float().clone()
    return vectors


def _extracted(key: str, difference: Tensor, rank: int, settings: ExtractSettings) -> Extracted:
    shape = difference.shape
    matrix = difference.flatten(1).to(settings.device)
    svd = on_cpu(svd_of_matrix(matrix))
    values = svd[1]
    new_rank = max(1, min(rank, true_rank(values)))
    module = from_svd(svd, new_rank, torch.Size((1, *shape[1:])))
    if settings.clamp_quantile < 1:
        module = _clamped(module, settings.clamp_quantile)
    left = float(values[new_rank:].norm() / values.norm())
    return Extracted(key, module, difference, left)


def _clamped(module: ModuleWeights, quantile: float) -> ModuleWeights:
    """Clamp both factors to the `quantile` of the absolute values of all their numbers."""
    sizes = torch.cat([module.up.flatten(), module.down.flatten()]).abs()
    bound = float(sizes.kthvalue(max(1, math.ceil(quantile * sizes.numel())))[0])
    return ModuleWeights(down=module.down.clamp(-bound, bound), up=module.up.clamp(-bound, bound), alpha=module.alpha)


def _predicts_velocity(original: Checkpoint, tuned: Checkpoint) -> bool:
    """Whether one of the models is known to predict velocity; few files say it."""
    return "v_prediction" in (tuned.facts.prediction, original.facts.prediction)


def extracted_metadata(original: Checkpoint, tuned: Checkpoint, settings: ExtractSettings) -> dict[str, str]:
    """The metadata of the new file, for programs and people."""
    metadata = {
        "ss_v2": str(tuned.facts.family is V2),
        "ss_base_model_version": tuned.facts.family.base_model + ("_v" if settings.predicts_velocity else ""),
        "modelspec.prediction_type": "v" if settings.predicts_velocity or _predicts_velocity(original, tuned) else "epsilon",
        "ss_sd_model_name": original.facts.path.name,
        "ss_training_comment": f"extracted: {tuned.facts.path.name} - {original.facts.path.name}",
    }
    if settings.conv_rank:
        metadata["ss_network_args"] = f'{{"conv_dim": "{settings.conv_rank}", "conv_alpha": "{settings.conv_rank}"}}'
    return metadata
