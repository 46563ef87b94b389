"""LoRA files: read them, group their tensors by module, report misfits, write them as other programs expect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from library.containers.uncached import torch_save
from library.containers.weights_file import SafetensorsFile, TensorInfo, dtype_name, open_weights
from library.errors import UserError, coded
from library.files import atomic_write
from library.lora.file_layout import file_layout, refuse_faults
from library.lora.file_names import DORA, DORA_MAGNITUDE, DORA_SCALE, TensorName, read_name
from library.lora.layers import PLAIN_TENSORS
from library.lora.variants.dora import rows
from library.paths.look import is_file
from library.words import verb

PICKLED = (".pt", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
LARGEST_NUMBER = 1e8  # of factors and alpha; half precision ends at 65,504
_FIRST_INPUTS = frozenset({4, 9})  # inputs of the first convolution of ordinary and of inpainting models: latents come first


@dataclass(frozen=True)
class ModuleWeights:
    """One module of a LoRA file: `down` [rank, in(, kh, kw)], `up` [out, rank(, 1, 1)], alpha (the rank if the file has no alpha)."""

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None  # of a DoRA, as in the file

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the ends of their names in files of this suite."""
        plain = {"lora_down.weight": self.down, "lora_up.weight": self.up, "alpha": torch.tensor(self.alpha)}
        return plain if self.magnitude is None else {**plain, DORA_SCALE: self.magnitude}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the file's tensors on the CPU under web UI names, with an alpha if the file's settings contain it.

    Tensors of unknown kind keep their names. Nothing in the file is executed. The UserError names the invalid file.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(coded("PATH-001", f"LoRA file {path} does not exist; check the path"))
    file = open_weights(path, "LoRA file")
    layout = file_layout(file.infos, file.metadata, path, f"LoRA file {path}")
    names = {name: f"{key}.{kind}" for key, kinds in layout.modules.items() for kind, name in kinds.items()}
    weights = {names.get(name, name): tensor.clone() for name, tensor in file.read([*names, *layout.strange])}
    return weights | {f"{key}.alpha": torch.tensor(alpha) for key, alpha in layout.alphas.items()}


def group_by_module(weights: Mapping[str, Tensor], source: str, kinds: frozenset[str] = PLAIN_TENSORS) -> dict[str, ModuleWeights]:
    """Group the tensors by LoRA key. Raises UserError for another kind of file, other kinds of tensors, or an incomplete module."""
    parts: dict[str, dict[str, Tensor]] = {}
    strange = []
    for name, tensor in weights.items():
        key, _, end = name.partition(".")
        place = TensorName(key, end) if end == DORA_MAGNITUDE else read_name(name)  # the name that `read_weights` gives PEFT's
        if place is not None and place.kind in kinds:
            parts.setdefault(place.key, {})[place.kind] = tensor
        else:
            strange.append(name)
    if strange:
        user = "networks.lora" if DORA.isdisjoint(kinds) else "networks.dora"
        raise UserError(coded("LORA-001", f"{source}: {_listed(strange)} cannot be used by {user}{kind_of_file(weights)}"))
    halves = [key for key, tensors in parts.items() if not {"lora_down.weight", "lora_up.weight"} <= tensors.keys()]
    if halves:
        raise UserError(
            coded(
                "LORA-002",
                f"{source}: {_listed(halves)} {verb(len(halves), 'lacks', 'lack')} lora_down.weight or lora_up.weight; the file is damaged",
            )
        )
    if not parts:
        raise UserError(coded("FILE-008", f"{source}: has no tensors; it is not a LoRA file"))
    refuse_faults({key: _infos(tensors) for key, tensors in parts.items()}, source)
    refuse_not_finite({key: list(tensors.values()) for key, tensors in parts.items()}, source)
    return {
        key: ModuleWeights(
            down=tensors["lora_down.weight"],
            up=tensors["lora_up.weight"],
            alpha=float(tensors["alpha"]) if "alpha" in tensors else float(tensors["lora_down.weight"].shape[0]),
            magnitude=_magnitude(tensors),
        )
        for key, tensors in parts.items()
    }


def _magnitude(tensors: Mapping[str, Tensor]) -> Tensor | None:
    if (of_peft := tensors.get(DORA_MAGNITUDE)) is not None:
        return rows(of_peft, tensors["lora_down.weight"].dim())
    return tensors.get(DORA_SCALE)


def refuse_not_finite(modules: Mapping[str, Iterable[Tensor]], source: str) -> None:
    """Raise UserError if a number of a module is not finite, since it would ruin everything computed from it."""
    if broken := [key for key, tensors in modules.items() if not all(map(is_finite, tensors))]:
        raise UserError(
            coded(
                "FILE-009",
                f"{source}: {_listed(broken)} {verb(len(broken), 'contains', 'contain')} numbers that are not finite or over "
                f"{LARGEST_NUMBER:g}; use an earlier save (networks/check_lora_weights.py names all such modules)",
            )
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, and small enough that products of them and of alpha are."""
    return bool((tensor.float().abs() <= LARGEST_NUMBER).all())


def _infos(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    return {kind: TensorInfo(dtype_name(tensor.dtype), tuple(tensor.shape)) for kind, tensor in tensors.items()}


def refuse_unknown(unknown: Iterable[str], weights: Iterable[str], source: str) -> None:
    """Raise UserError if the file has modules that the model lacks."""
    if unknown := list(unknown):
        raise UserError(
            coded("LORA-003", f"{source}: {_listed(unknown)} {verb(len(unknown), 'is', 'are')} not in this model{kind_of_file(weights)}")
        )


def refuse_convolutions(keys: Iterable[str], source: str) -> None:
    """Raise UserError if the file patches convolutions and the network does not."""
    if keys := list(keys):
        raise UserError(
            coded(
                "LORA-003",
                f"{source}: {_listed(keys)} {verb(len(keys), 'is', 'are')} for convolutions, which this "
                f"network does not train; use --dim_from_weights, "
                "or --network_args conv_dim=… with the rank that the file was made with",
            )
        )


def are_first_inputs(one: int, other: int) -> bool:
    """Whether these are the input channels of the first convolutions of an ordinary and an inpainting model."""
    return {one, other} == _FIRST_INPUTS


def with_inputs(weight: Tensor, inputs: int) -> Tensor:
    """Convert a first convolution's weight or LoRA down matrix [·, in, kh, kw] between ordinary and inpainting models; others stay as they
    are. Additional inputs get 0, and inputs that do not exist in the target are dropped."""
    if weight.dim() != 4 or not are_first_inputs(weight.shape[1], inputs):
        return weight
    fitted = weight.new_zeros(weight.shape[0], inputs, *weight.shape[2:])
    both = min(_FIRST_INPUTS)
    fitted[:, :both] = weight[:, :both]
    return fitted


def fitted(
    modules: Mapping[str, ModuleWeights], shapes: Mapping[str, tuple[torch.Size, torch.Size]], source: str
) -> dict[str, ModuleWeights]:
    """Fit the modules to a network of (down, up) `shapes`; a first convolution may change between ordinary and inpainting models
    (`with_inputs`). Raises UserError if others differ: another rank, or another base model."""
    fitting = {key: replace(one, down=with_inputs(one.down, shapes[key][0][1])) for key, one in modules.items()}
    _refuse_misfits(fitting, shapes, source)
    return fitting


def _refuse_misfits(modules: Mapping[str, ModuleWeights], shapes: Mapping[str, tuple[torch.Size, torch.Size]], source: str) -> None:
    wrong = {key: module for key, module in modules.items() if (module.down.shape, module.up.shape) != shapes[key]}
    if not wrong:
        return
    key, module = next(iter(wrong.items()))
    down, up = shapes[key]
    if module.down.shape[1:] == down[1:] and module.up.shape[0] == up[0]:
        raise UserError(
            coded(
                "LORA-004",
                f"{source}: {_listed(wrong)} {verb(len(wrong), 'has another rank', 'have other ranks')} than this "
                f"network ({key}: {module.rank}, here {down[0]}); "
                "use --dim_from_weights, or the --network_dim and --network_args that the file was made with",
            )
        )
    raise UserError(
        coded(
            "LORA-005",
            f"{source}: {_listed(wrong)} {verb(len(wrong), 'does', 'do')} not match this model ({key}: "
            f"{module.down.shape[1]} → {module.up.shape[0]} channels, "
            f"here {down[1]} → {up[0]}); the file was made for another base model, for instance SD 2.x and not SD 1.x (--v2)",
        )
    )


def write_weights(path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> None:
    """Write `.safetensors` (with `metadata` and the hashes by which web UIs recognize a file) or `.pt`/`.ckpt` (without metadata).

    The tensors must be on the CPU and contiguous. The file appears completely or not at all.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            coded("FILE-007", f"{path}: a LoRA is saved as {', '.join(SUFFIXES)}, not as {suffix or 'a name without an ending'}")
        )
    weights = dict(weights)
    with atomic_write(path) as temporary:
        if suffix == ".safetensors":
            entries = {key: str(value) for key, value in (metadata or {}).items()}
            hashes = model_hashes(weights, entries)
            if "modelspec.sai_model_spec" in entries:  # the Model Metadata Standard stores the same hash under its own key
                hashes["modelspec.hash_sha256"] = f"0x{hashes['sshs_model_hash']}"
            safetensors.torch.save_file(weights, temporary, {**entries, **hashes})
        else:
            torch_save(weights, temporary)


def hash_anew(path: Path) -> None:
    """Add the hashes of `write_weights` to a `.safetensors` that another program wrote; other files stay unchanged."""
    if path.suffix.lower() != ".safetensors":
        return
    try:
        file = open_weights(path, "network file")
    except UserError:  # a custom module may write any format
        return
    if isinstance(file, SafetensorsFile):
        weights = {name: tensor.clone() for name, tensor in file.read(file.infos)}
        write_weights(path, weights, {key: value for key, value in file.metadata.items() if not key.startswith("sshs_")})


def model_hashes(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Compute `sshs_model_hash`, SHA-256 of everything after the header, and `sshs_legacy_hash`, the first 8 digits of that of 64 KiB at 1
    MiB.

    Both hash the file with only the `ss_` metadata, as AUTOMATIC1111's Additional Networks defines them, so that a user's notes in the
    metadata do not change them.
    """
    content = safetensors.torch.save(dict(weights), {key: value for key, value in metadata.items() if key.startswith("ss_")})
    header = 8 + int.from_bytes(content[:8], "little")
    return {
        "sshs_model_hash": hashlib.sha256(memoryview(content)[header:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8],
    }


# How to recognize files that this network cannot use: (part of a tensor's name, what the file is).
_OTHER_KINDS = (
    ("model.diffusion_model.", "a whole model"),
    ("lora_te1_", "an SDXL LoRA"),
    ("lora_te2_", "an SDXL LoRA"),
    ("lora_unet_input_blocks_", "an SDXL LoRA"),
    ("transformer_blocks_1_", "an SDXL LoRA"),
    ("lora_unet_double_blocks_", "a FLUX LoRA"),
    (".hada_", "a LoHa, which lycoris.kohya reads"),
    (".lokr_", "a LoKr, which lycoris.kohya reads"),
    (".w_norm", "a LyCORIS file with norms, which lycoris.kohya reads"),
    (".diff", "full differences, which lycoris.kohya reads"),
    (".on_input", "an IA3, which lycoris.kohya reads"),
    (".oft_blocks", "an OFT or BOFT, which lycoris.kohya reads"),
    (".a1.weight", "a GLoRA, which lycoris.kohya reads"),
    (".lora_up.bias", "a LoRA with biases (lora_bias of PEFT)"),
    (".lora_B.bias", "a LoRA with biases (lora_bias of PEFT)"),
    ("text_encoder_2.", "an SDXL LoRA"),
    (".transformer_blocks.1.", "an SDXL LoRA"),
    ("transformer.", "a LoRA of another family (such as SD3 or Flux)"),
    (":up", "a LoRA of cloneofsimo's first program, which is not supported"),
    (".lora_mid.", "a CP-decomposed LoCon, which lycoris.kohya reads"),
    (".dora_scale", "a DoRA, which networks.dora reads"),  # after the kinds that may contain it too
    (".dora_magnitude", "a DoRA of PEFT, which networks.dora reads"),
    (".lora_magnitude_vector", "a DoRA of PEFT, which networks.dora reads"),
)


def kind_of_file(weights: Iterable[str]) -> str:
    """The end of a message about an unusable file: what it is by its tensor names, or what to use instead."""
    names = list(weights)
    for mark, kind in _OTHER_KINDS:
        if any(mark in name for name in names):
            return f": it looks like {kind}"
    return "; use a file made for this model by networks.lora"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
