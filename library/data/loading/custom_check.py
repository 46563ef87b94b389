"""Checks one batch of a user's dataset class: shapes, dtypes, ranges; one clear line per error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from library.errors import Problem, UserError, coded
from library.options.bounds import PIXELS_OF_A_LATENT
from library.options.suggest import closest
from library.words import counted

KEYS = ("images", "latents", "input_ids", "captions", "loss_weights", "masks", "image_keys")
IDS = 77  # ids per window: begin, 75 tokens, end
BEGIN, END = 49406, 49407  # the last two ids of CLIP's vocabulary
LARGEST = 1.5  # tolerates the overshoot of enlarging filters beyond −1..1
_UNLIKELY_DEVIATION = 3.0  # of latents: about 1 if scaled, 5.5 if unscaled
_CHANNELS = {"images": 3, "latents": 4}


@dataclass(frozen=True)
class CustomItem:
    """One valid batch of B images from the class; all tensors on the CPU."""

    pictures: Tensor  # float32 images [B,3,H,W] in −1..1, or scaled latents [B,4,H/8,W/8]
    are_latents: bool
    input_ids: Tensor | None  # int64 [B,N,77]
    captions: tuple[str, ...] | None
    loss_weights: Tensor  # float32 [B]
    masks: Tensor | None  # float32 [B,1,H/8,W/8] in 0..1
    image_keys: tuple[str, ...] | None
    unused: tuple[str, ...] = ()  # unknown keys
    hints: tuple[str, ...] = ()  # allowed values that look like mistakes

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.pictures.shape[2:]
        factor = PIXELS_OF_A_LATENT if self.are_latents else 1
        return width * factor, height * factor


def checked(item: object, place: str, windows: int, needs_text: bool = True) -> CustomItem:
    """Check `item`, the value of the class for `place` ("--dataset_class my_data.Pairs[3]"), for `windows` of --max_token_length.

    Raises UserError with all errors: each line names the place, the value and what is expected.
    """
    return _Look(item, place, windows, needs_text).checked()


class _Look:
    def __init__(self, item: object, place: str, windows: int, needs_text: bool) -> None:
        self._place, self._windows, self._needs_text = place, windows, needs_text
        self._faults: list[Problem] = []
        self._hints: list[str] = []
        if not isinstance(item, Mapping):
            raise UserError(
                coded("DATA-022", f"{place}: is a {type(item).__name__}, expected a dict with images or latents, and captions or input_ids")
            )
        self._values = {key: value for key, value in item.items() if value is not None}

    def checked(self) -> CustomItem:
        """The item; raises UserError with all errors."""
        unused = self._unused()
        which = [name for name in ("images", "latents") if name in self._values]
        if len(which) != 1:
            has = "both images and latents" if which else f"neither images nor latents (its keys: {', '.join(map(str, self._values))})"
            raise UserError(coded("DATA-022", f"{self._place}: has {has}, expected one of the two"))
        pictures = self._pictures(which[0])
        if pictures is None:
            raise UserError(*self._faults)
        count = len(pictures)
        input_ids, captions = self._ids(count), self._texts("captions", count)
        if self._needs_text and "captions" not in self._values and "input_ids" not in self._values:
            self._faults.append(
                coded(
                    "DATA-022",
                    f"{self._place}: has neither captions nor input_ids, expected one of the two for its {counted(count, 'image')}",
                )
            )
        weights, masks = self._weights(count), self._masks(pictures, which[0] == "latents")
        image_keys = self._texts("image_keys", count)
        if self._faults:
            raise UserError(*self._faults)
        return CustomItem(
            pictures, which[0] == "latents", input_ids, captions, weights, masks, image_keys, tuple(unused), tuple(self._hints)
        )

    def _unused(self) -> list[str]:
        others = [str(key) for key in self._values if key not in KEYS]
        for key in others[:]:
            near = closest(key, [name for name in KEYS if name not in self._values], 0.6)
            if near:
                self._faults.append(
                    coded("DATA-022", f"{self._place}: has the key {key!r}, which is not known; did you mean {near!r}? If not, rename it")
                )
                others.remove(key)
        return others

    def _fault(self, name: str, present: str, expected: str, remedy: str = "") -> None:
        self._faults.append(coded("DATA-022", f"{self._place}: {name} {present}, expected {expected}" + (f"; {remedy}" if remedy else "")))

    def _tensor(self, name: str, expected: str) -> Tensor | None:
        value = self._values[name]
        if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
            self._fault(name, f"is a {type(value).__name__} of tensors", expected, "combine them with torch.stack")
            return None
        try:
            return torch.as_tensor(value).detach().to("cpu")
        except (TypeError, ValueError, RuntimeError):
            self._fault(name, f"is a {type(value).__name__}", expected)
            return None

    def _floats(self, name: str, expected: str, remedy: str = "") -> Tensor | None:
        """The value as finite float32, or None after an error."""
        tensor = self._tensor(name, expected)
        if tensor is None:
            return None
        if not tensor.is_floating_point():
            self._fault(name, f"is {_kind(tensor)}", expected, remedy)
            return None
        tensor = tensor.to(torch.float32)
        if not torch.isfinite(tensor).all():
            rows = (~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)).nonzero().flatten().tolist() if tensor.ndim else []
            where = f" in row {', '.join(map(str, rows[:5]))}" if rows else ""
            self._fault(name, f"contains numbers that are not finite{where}", expected)
            return None
        return tensor

    def _pictures(self, name: str) -> Tensor | None:
        channels = _CHANNELS[name]
        shape = "[B,3,H,W]" if name == "images" else "[B,4,H/8,W/8]"
        expected = f"a float tensor {shape}" + (" in -1..1" if name == "images" else ", scaled by 0.18215")
        tensor = self._floats(name, expected, "divide by 127.5 and subtract 1" if name == "images" else "")
        if tensor is None:
            return None
        if tensor.ndim != 4 or tensor.shape[1] != channels or 0 in tensor.shape:
            last = tensor.ndim == 4 and tensor.shape[-1] == channels
            self._fault(
                name, f"has the shape {_shape(tensor)}", shape, "move the channels to position 2: .permute(0, 3, 1, 2)" if last else ""
            )
            return None
        if name == "images":
            self._look_at_images(tensor)
        elif (deviation := float(tensor.std())) > _UNLIKELY_DEVIATION:
            self._hints.append(f"latents have a standard deviation of {deviation:.1f}, usual is about 1: are they multiplied by 0.18215?")
        return tensor

    def _look_at_images(self, images: Tensor) -> None:
        height, width = images.shape[2:]
        if height % PIXELS_OF_A_LATENT or width % PIXELS_OF_A_LATENT:
            self._fault("images", f"are {width}×{height}", "sides that are multiples of 8 pixels")
        low, high = float(images.min()), float(images.max())
        if max(-low, high) > LARGEST:
            self._fault("images", f"reach from {low:g} to {high:g}", "-1..1", "divide by 127.5 and subtract 1" if high > 2 else "")
        elif low >= 0 and high > 0:
            self._hints.append(f"images reach from {low:.2f} to {high:.2f}: -1 is black, 0 is grey; if these are 0..1, use images * 2 - 1")

    def _ids(self, count: int) -> Tensor | None:
        if "input_ids" not in self._values:
            return None
        expected = f"whole numbers [{count},{self._windows},77]" + (f" or [{count},77]" if self._windows == 1 else "")
        ids = self._tensor("input_ids", expected)
        if ids is None:
            return None
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            self._fault("input_ids", f"is {_kind(ids)}", expected)
            return None
        shaped = ids[:, None] if ids.ndim == 2 else ids
        if tuple(shaped.shape) != (count, self._windows, IDS):
            room = (self._windows * (IDS - 2), "window" if self._windows == 1 else "windows")
            self._fault(
                "input_ids", f"has the shape {_shape(ids)}", f"{expected} (--max_token_length {room[0]}: {self._windows} {room[1]})"
            )
            return None
        if int(ids.min()) < 0 or int(ids.max()) > END or not (shaped[:, :, 0] == BEGIN).all() or not (shaped == END).any(dim=2).all():
            self._fault("input_ids", "is not in CLIP's vocabulary", f"{BEGIN} at the beginning and {END} at the end of each window")
            return None
        return shaped.to(torch.int64).contiguous()

    def _texts(self, name: str, count: int) -> tuple[str, ...] | None:
        if name not in self._values:
            return None
        value, expected = self._values[name], f"a list of {counted(count, 'text')}"
        if isinstance(value, str) or not isinstance(value, list | tuple):
            self._fault(name, f"is a {type(value).__name__}", expected)
        elif len(value) != count:
            self._fault(name, f"has {counted(len(value), 'entry', 'entries')}", f"{expected}, one an image")
        elif strange := [part for part in value if not isinstance(part, str)]:
            self._fault(name, f"contains a {type(strange[0]).__name__}", expected)
        else:
            return tuple(value)
        return None

    def _weights(self, count: int) -> Tensor:
        ones = torch.ones(count)
        if "loss_weights" not in self._values:
            return ones
        expected = f"float numbers [{count}], one an image"
        weights = self._floats("loss_weights", expected)
        if weights is not None and tuple(weights.shape) != (count,):
            self._fault("loss_weights", f"has the shape {_shape(weights)}", expected)
        return ones if weights is None else weights

    def _masks(self, pictures: Tensor, latents: bool) -> Tensor | None:
        if "masks" not in self._values:
            return None
        count, _, height, width = pictures.shape
        whole = (height * PIXELS_OF_A_LATENT, width * PIXELS_OF_A_LATENT) if latents else (height, width)
        small = (height, width) if latents else (height // PIXELS_OF_A_LATENT, width // PIXELS_OF_A_LATENT)
        expected = f"float numbers in 0..1 [{count},{whole[0]},{whole[1]}] or [{count},1,{small[0]},{small[1]}]"
        masks = self._floats("masks", expected)
        if masks is None:
            return None
        shaped = masks[:, None] if masks.ndim == 3 else masks
        if tuple(shaped.shape) not in ((count, 1, *whole), (count, 1, *small)):
            self._fault("masks", f"has the shape {_shape(masks)}", expected)
            return None
        if float(masks.min()) < 0 or float(masks.max()) > 1:
            self._fault("masks", f"reaches from {float(masks.min()):g} to {float(masks.max()):g}", "0..1 (1 where the loss counts)")
            return None
        return shaped if tuple(shaped.shape[2:]) == small else avg_pool2d(shaped, PIXELS_OF_A_LATENT)


def _shape(tensor: Tensor) -> str:
    return "[" + ",".join(map(str, tensor.shape)) + "]"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
