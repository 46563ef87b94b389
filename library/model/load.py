"""Load a checkpoint, a Diffusers folder or a Hub id into memory, each weight directly to its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log
from library.containers.weights_file import WeightsFile, open_weights
from library.errors import UserError, coded, first_line
from library.model.builders import Build, Shapes, text_builder, unet_builder, vae_builder
from library.model.family import SCALE_FACTOR, V1, ModelFamily
from library.model.files import convert
from library.model.files.facts import (
    LATENT_CHANNELS,
    OPTION,
    ModelFacts,
    check_flags,
    check_tensors,
    file_facts,
    inspect,
    is_vae_file,
)
from library.model.files.finite import check_finite
from library.model.files.locate import locate, part_weights
from library.paths.look import is_folder
from library.words import counted

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from torch import Tensor, nn

    from library.model.bundle import StableDiffusion

__all__ = ["ModelFacts", "check_flags", "inspect", "load", "load_vae"]
VAE_OPTION = "--vae"


@dataclass(frozen=True)
class Storage:
    """The dtypes of the weights in memory; the VAE may have its own."""

    dtype: torch.dtype
    vae_dtype: torch.dtype
    device: torch.device | str = "cpu"

    def of(self, part: str) -> torch.dtype:
        """The dtype of "unet", "vae" or a text encoder."""
        return self.vae_dtype if part == "vae" else self.dtype


def load(
    path_or_id: str | Path,
    v2: bool = False,
    v_parameterization: bool = False,
    vae: str | Path | None = None,
    dtype: torch.dtype | None = None,
    tokenizer_cache_dir: str | Path | None = None,
    max_token_length: int | None = None,
    vae_dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    option: str = OPTION,
) -> StableDiffusion:
    """Load a model, all parts in `dtype` (None: float32), the VAE in `vae_dtype` (None: the same), in evaluation mode.

    Each weight goes from the file directly to `device`, so main memory contains little more than the largest weight at a time. Raises
    UserError, naming `option`, if the flags contradict the weights, the file is of an unknown kind, or tensors are missing or misshapen.
    """
    import torch

    from library.model.bundle import StableDiffusion
    from library.model.probe import looks_like_epsilon
    from library.model.text.tokenizer import ClipTokenizer

    facts = inspect(path_or_id, option)
    check_flags(facts, v2, v_parameterization, str(vae) if vae else None, warns=False)  # each script has warned before
    storage = Storage(dtype or torch.float32, vae_dtype or dtype or torch.float32, device)
    if facts.layout == "diffusers":
        facts = replace(facts, path=locate(str(path_or_id), option))
        parts = load_folder(facts, storage, with_vae=vae is None)
    else:
        parts = _load_file(open_weights(facts.path, option), facts, storage, with_vae=vae is None)
    first, *further = (parts[part] for part in facts.family.text_parts)
    model = StableDiffusion(
        family=facts.family,
        prediction="v_prediction" if v_parameterization else "epsilon",
        tokenizer=ClipTokenizer(facts.family, max_token_length, cache_dir=tokenizer_cache_dir),
        text_encoder=first,
        vae=load_vae(vae, storage.vae_dtype, device=device) if vae else parts["vae"],
        unet=parts["unet"],
        source=facts,
        further_text_encoders=tuple(further),
    )
    check_vae(model.vae, f"{VAE_OPTION} {vae}" if vae else option)
    if (
        v_parameterization or len(facts.family.predictions) > 1
    ) and facts.prediction is None:  # otherwise the flags were checked against the file
        _check_prediction(looks_like_epsilon(model), v_parameterization, facts)
    return model


def load_vae(path_or_id: str | Path, dtype: torch.dtype, option: str = VAE_OPTION, device: torch.device | str = "cpu") -> AutoencoderKL:
    """Load the VAE of a full checkpoint, a VAE file, a Diffusers model or VAE folder, or a Hub id; errors name `option`."""
    path = locate(str(path_or_id), option)
    if is_folder(path):
        folder = path / "vae" if is_folder(path / "vae") else path
        return _load_part(folder, option, vae_builder(folder, option), convert.modern_vae_name, dtype, device)
    file = open_weights(path, option)
    if not is_vae_file(file.infos):
        raise UserError(coded("MODEL-008", f"{option} {path.name}: has no VAE; use a VAE file, a full checkpoint or a Diffusers folder"))
    check_tensors(file, option)
    if any(name.startswith("decoder.up_blocks.") for name in file.infos):  # one file from a Diffusers folder
        named = _renamed(file, convert.modern_vae_name)
        return _fill(vae_builder(path.parent, option), named, dtype, device, f"{option} {path.name}")
    return _load_places(file, {"vae"}, V1, Storage(dtype, dtype, device), option)["vae"]


def check_vae(vae: AutoencoderKL, where: str) -> None:
    """Raise UserError, with `where` at the start of its line, for a VAE of another family: other latents or another scale."""
    if vae.config.latent_channels != LATENT_CHANNELS:
        channels = counted(vae.config.latent_channels, "latent channel")
        raise UserError(coded("MODEL-009", f"{where}: this VAE has {channels}, Stable Diffusion's has {LATENT_CHANNELS}"))
    if abs(vae.config.scaling_factor - SCALE_FACTOR) > 1e-4:
        said = f"says scaling factor {vae.config.scaling_factor}, Stable Diffusion v1 and v2 need {SCALE_FACTOR}"
        raise UserError(coded("MODEL-009", f"{where}: this VAE is for another model family (its config {said}); use one made for v1 or v2"))


def _check_prediction(epsilon: bool | None, v_parameterization: bool, facts: ModelFacts) -> None:
    if epsilon and v_parameterization:
        raise UserError(
            coded(
                "MODEL-007",
                f"--v_parameterization contradicts the weights: {facts.option} {facts.path.name} predicts noise; remove the flag",
            )
        )
    if epsilon is False and not v_parameterization:
        log.warning("%s %s seems to predict velocity: if samples are noise, add --v_parameterization", facts.option, facts.path.name)


def _load_file(file: WeightsFile, facts: ModelFacts, storage: Storage, with_vae: bool) -> dict[str, nn.Module]:
    file_facts(file, facts.option)  # the file may have changed since its first inspection
    return _load_places(file, {"unet", *facts.family.text_parts} | ({"vae"} if with_vae else set()), facts.family, storage, facts.option)


def _load_places(file: WeightsFile, wanted: set[str], family: ModelFamily, storage: Storage, option: str) -> dict[str, nn.Module]:
    """Load the wanted parts of an original-layout file."""
    places = {name: place for name, place in convert.places(file.infos).items() if place.part in wanted}
    builders = {"unet": unet_builder(family, None, option), "vae": vae_builder(None, option)}
    builders |= {part: text_builder(encoder, None, option) for part, encoder in family.text_parts.items()}
    loaded = {}
    for part in sorted(wanted):
        mine = {name: place for name, place in places.items() if place.part == part}
        shapes: Shapes = {}
        for name, place in mine.items():
            shapes.update(convert.live_shapes(place, file.infos[name].shape))

        def tensors(mine: Mapping[str, convert.Place] = mine) -> Iterator[tuple[str, Tensor]]:
            for name, tensor in file.read(mine):
                yield from convert.to_parts(mine[name], tensor).items()

        loaded[part] = _fill(builders[part], (shapes, tensors), storage.of(part), storage.device, f"{option} {file.path.name} ({part})")
    return loaded


def load_folder(facts: ModelFacts, storage: Storage, with_vae: bool) -> dict[str, nn.Module]:
    """Load the parts of a Diffusers folder, built from its config files."""
    folder, option = facts.path, facts.option
    ways: dict[str, tuple[Build, Callable[[str], str | None]]] = {
        "unet": (unet_builder(facts.family, folder / "unet", option), str),
    }
    for part, encoder in facts.family.text_parts.items():
        ways[part] = (text_builder(encoder, folder / part, option), convert.modern_text_name)
    if with_vae:
        ways["vae"] = (vae_builder(folder / "vae", option), convert.modern_vae_name)
    return {
        part: _load_part(folder / part, option, build, rename, storage.of(part), storage.device) for part, (build, rename) in ways.items()
    }


def _load_part(
    folder: Path,
    option: str,
    build: Build,
    rename: Callable[[str], str | None],
    dtype: torch.dtype,
    device: torch.device | str,
) -> nn.Module:
    path = part_weights(folder, option)
    return _fill(build, _renamed(open_weights(path, option), rename), dtype, device, f"{option} {path}")


Tensors = tuple[Shapes, Callable[[], Iterable[tuple[str, "Tensor"]]]]


def _renamed(file: WeightsFile, rename: Callable[[str], str | None]) -> Tensors:
    """Return the shapes and tensors of a file under the names from `rename` (None: left out)."""
    names = {name: new for name in file.infos if (new := rename(name)) is not None}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in file.read(names):
            yield names[name], tensor

    return {new: file.infos[name].shape for name, new in names.items()}, tensors


def _fill(build: Build, tensors: Tensors, dtype: torch.dtype, device: torch.device | str, where: str) -> nn.Module:
    """Build a part without memory for its weights, then assign each tensor; raises UserError for missing or unexpected tensors."""
    from library.model.files.weightless import weightless

    shapes, read = tensors
    try:
        with weightless():
            module = build(shapes)
    except UserError:
        raise
    except Exception as fault:  # diffusers and transformers raise of any kind for shapes and settings that do not fit each other
        reason = f" ({first_line(fault)})" if isinstance(fault, ValueError | RuntimeError) else ""
        raise UserError(
            coded(
                "MODEL-010",
                f"{where}: its architecture cannot be determined{reason}; the file, or config.json next to it, is damaged or incomplete, "
                "download it again",
            )
        ) from fault
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _check_shapes(expected, shapes, where)
    state = {name: tensor.to(device, dtype, copy=True).contiguous() for name, tensor in read()}
    check_finite(state, where)
    module.load_state_dict(state, strict=True, assign=True)
    _make_buffers(module, device)
    return module.eval().requires_grad_(True)


def _check_shapes(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]], where: str) -> None:
    missing = sorted(expected.keys() - actual.keys())
    odd = sorted(actual.keys() - expected.keys())
    other = sorted(name for name in expected.keys() & actual.keys() if expected[name] != tuple(actual[name]))
    problems = [
        coded("MODEL-010", f"{where}: {counted(len(names), *what)}, such as {names[0]}; the file is incomplete or another kind of file")
        for names, what in (
            (missing, ("missing tensor",)),
            (odd, ("unexpected tensor",)),
            (other, ("tensor with an unexpected shape", "tensors with an unexpected shape")),
        )
        if names
    ]
    if problems:
        raise UserError(*problems)


def _make_buffers(module: nn.Module, device: torch.device | str) -> None:
    """Fill the buffers that are not weights: the position ids of CLIP."""
    import torch

    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", f"no value is known for the buffer {name}"
                owner.position_ids = torch.arange(buffer.shape[-1], device=device).expand(1, -1)
