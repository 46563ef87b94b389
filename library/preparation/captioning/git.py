"""The captioning model GIT: weights from a folder or the Hub, preprocessing, and greedy decoding.

Wang et al. 2022, "GIT: A Generative Image-to-text Transformer for Vision and Language".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from library.data.config.blueprint import Size
from library.data.pixels.images import read_rgb
from library.errors import UserError, coded
from library.preparation.captioning.blip import MEAN, STD, processor_settings
from library.preparation.captioning.pretrained import loading

if TYPE_CHECKING:
    from transformers import GitForCausalLM, PreTrainedTokenizerBase

# Phrases in which GIT quotes writing in the image, mostly wrong. The text is in double quotes, or a single word.
_TEXT = r'(?:" ?[^"]*"|\w+)'
_ABOUT_WRITING = tuple(
    map(
        re.compile,
        (
            rf"(?:has|with|and) the (?:words?|letters?|name) {_TEXT}(?: ?(?:is )?(?:on|in) (?:the |her |their |him )?\w+)?",
            rf"(?:with a sign )?that says ?{_TEXT}(?: ?on it)?",
            r"(?:with a sign )?that says ?(?:' ?(?:i'm)?[^']*'|\w+)(?: ?on it)?",
            r"with the number \d+ on (?:it|\w+ \w+)",
            r'with the words "',
            r"word \w+ on it",
            r"that says the word \w+ on it",
            "that says'the word \"(?: on it)?",
        ),
    )
)


def without_writing(caption: str) -> str:
    """The caption without phrases about writing in the image.

    >>> without_writing('a cat with the words "hello" on it in a garden')
    'a cat in a garden'
    """
    for part in _ABOUT_WRITING:
        caption = part.sub("", caption)
    return " ".join(caption.split())


class GitCaptioner:
    """A GIT model on the GPU, or on the CPU without a GPU."""

    def __init__(self, weights: str, max_length: int) -> None:
        self._max_length = max_length
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer = _load(weights)
        self.model.to(self.device).eval().requires_grad_(False)
        longest = self.model.config.max_position_embeddings
        if max_length > longest:
            raise UserError(
                coded("TOOL-004", f"--max_length: {max_length} is more than the {longest} tokens that {weights} can write; lower it")
            )
        settings = processor_settings(weights)
        side = int(self.model.config.vision_config.image_size)
        self._shortest = _shortest_edge(settings.get("size"))
        self._crop, self._square = _size(settings.get("crop_size"), side), _size(settings.get("size"), side)
        self._mean = np.array(settings.get("image_mean", MEAN), dtype=np.float32)
        self._std = np.array(settings.get("image_std", STD), dtype=np.float32)

    def prepare(self, path: Path) -> np.ndarray:
        """The image file as model input, float32 [3,S,S], normalized to mean 0 and deviation 1.

        The input is the centre square, or the image resized to a square if the settings of the weights say so.
        """
        from PIL import Image

        image = Image.fromarray(read_rgb(path))
        if self._shortest:
            scale = self._shortest / min(image.size)
            width, height = (max(self._shortest, int(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            left, top = ((side - crop) // 2 for side, crop in zip(image.size, self._crop, strict=True))
            image = image.crop((left, top, left + self._crop[0], top + self._crop[1]))
        else:
            image = image.resize(self._square, Image.Resampling.BICUBIC)
        scaled = (np.asarray(image, dtype=np.float32) / 255 - self._mean) / self._std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    @torch.inference_mode()
    def describe(self, images: np.ndarray, paths: Sequence[Path]) -> list[str]:
        """One caption per image, for images float32 [B,3,S,S]."""
        start = torch.full((len(images), 1), self.tokenizer.cls_token_id, device=self.device)
        pixels = torch.from_numpy(images).to(self.device)
        ids = self.model.generate(pixel_values=pixels, input_ids=start, max_length=self._max_length, do_sample=False, num_beams=1)
        return [" ".join(line.split()) for line in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def _shortest_edge(size: object) -> int:
    """The length that the shorter side is resized to; 0 if both sides are specified."""
    match size:
        case {"shortest_edge": int(side)} | int(side):
            return side
    return 0


def _size(size: object, side: int) -> Size:
    """(width, height) in pixels; `side` for both if the settings do not specify them."""
    match size:
        case {"width": int(width), "height": int(height)}:
            return width, height
        case int(both):
            return both, both
    return side, side


def _load(weights: str) -> tuple[GitForCausalLM, PreTrainedTokenizerBase]:
    """Model and tokenizer. Raises UserError of one line if they cannot be loaded."""
    from transformers import AutoTokenizer, GitForCausalLM

    with loading("--model_id", weights, "GIT"):
        model = GitForCausalLM.from_pretrained(weights, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(weights)
    if len(tokenizer) < model.config.vocab_size // 2:  # transformers creates an empty tokenizer if its files are missing
        words = model.config.vocab_size
        raise UserError(
            coded("TOOL-003", f"--model_id: {weights}: has no tokenizer for the model's {words} words; add tokenizer.json or vocab.txt")
        )
    return model, tokenizer
