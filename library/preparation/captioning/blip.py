"""The captioning model BLIP: weights from a folder or the Hub, preprocessing, and captions by beam search or seeded sampling.

Li et al. 2022, "BLIP: Bootstrapping Language-Image Pre-training". As in its authors' code, each caption continues `_PROMPT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from library.data.pixels.images import read_rgb
from library.errors import UserError, coded
from library.parsing.json_text import parse_json
from library.paths.opening import read_text
from library.preparation.captioning.pretrained import loading
from library.seeds import fold

if TYPE_CHECKING:
    from transformers import BlipForConditionalGeneration, PreTrainedTokenizerBase

_PROMPT = "a picture of"
# Defaults of BLIP's processor: CLIP's mean and standard deviation of red, green, blue in 0..1.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TOP_K = 50  # number of words to sample from, in addition to --top_p; transformers' default, which the authors use
_SAMPLING_PENALTY = 1.1  # on earlier words; the authors' value for nucleus sampling (beam search uses none)


@dataclass(frozen=True)
class Writing:
    """How captions are generated: `beam_search` with `num_beams`, else sampling from the most likely words with total probability `top_p`.

    Lengths are in tokens. A sampled caption depends only on `seed` and the image's path in its folder, not on its batch.
    """

    beam_search: bool = False
    num_beams: int = 1
    top_p: float = 0.9
    max_length: int = 75
    min_length: int = 5
    seed: int = 42


class Captioner:
    """A BLIP model on the GPU, or on the CPU without a GPU. Seeds depend on image paths relative to `folder`."""

    def __init__(self, weights: str, writing: Writing, folder: Path) -> None:
        self.writing, self._folder = writing, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer, settings = _load(weights)
        self.model.to(self.device).eval().requires_grad_(False)
        self._side = int(self.model.config.vision_config.image_size)
        self._mean = np.array(settings.get("image_mean", MEAN), dtype=np.float32)
        self._std = np.array(settings.get("image_std", STD), dtype=np.float32)
        longest = self.model.config.text_config.max_position_embeddings
        if writing.max_length > longest:
            raise UserError(
                coded(
                    "TOOL-004", f"--max_length: {writing.max_length} is more than the {longest} tokens that {weights} can write; lower it"
                )
            )
        self._prompt = self.tokenizer(_PROMPT, return_tensors="pt").input_ids
        if writing.max_length < self._prompt.shape[1]:
            least = self._prompt.shape[1]
            raise UserError(coded("TOOL-004", f"--max_length: {writing.max_length} leaves no space for a word; use at least {least}"))

    def prepare(self, path: Path) -> np.ndarray:
        """The image file as model input, float32 [3,S,S]: resized to a square as in training, normalized to mean 0 and deviation 1."""
        from PIL import Image

        pixels = Image.fromarray(read_rgb(path)).resize((self._side, self._side), Image.Resampling.BICUBIC)
        scaled = (np.asarray(pixels, dtype=np.float32) / 255 - self._mean) / self._std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    @torch.inference_mode()
    def describe(self, images: np.ndarray, paths: Sequence[Path]) -> list[str]:
        """One caption per image, for images float32 [B,3,S,S]."""
        prompt = self._prompt.repeat(len(images), 1).to(self.device)
        ids = self.model.generate(pixel_values=torch.from_numpy(images).to(self.device), input_ids=prompt, **self._how(paths))
        own = ids[:, prompt.shape[1] - 1 :]  # generate drops the end token of the prompt
        return [" ".join(line.split()) for line in self.tokenizer.batch_decode(own, skip_special_tokens=True)]

    def _how(self, paths: Sequence[Path]) -> dict[str, object]:
        """The arguments of `generate`."""
        writing = self.writing
        common: dict[str, object] = dict(max_length=writing.max_length, min_length=writing.min_length, do_sample=False)
        if writing.beam_search:
            return common | dict(num_beams=writing.num_beams)
        from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

        seeds = [fold(writing.seed, "caption", _name(path, self._folder)) for path in paths]
        # The most likely word after seeded noise is a random sample, see SeededDraw; transformers' own sampling depends on the batch.
        draw = LogitsProcessorList([TopKLogitsWarper(top_k=_TOP_K), TopPLogitsWarper(top_p=writing.top_p), SeededDraw(seeds)])
        return common | dict(num_beams=1, repetition_penalty=_SAMPLING_PENALTY, logits_processor=draw)


class SeededDraw:
    """Turns greedy decoding into sampling, with one random generator per row of the batch.

    argmax(log p + g) with Gumbel noise g is a sample from p (Gumbel 1954; Maddison et al. 2014, "A* sampling", section 2).
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, words] with noise added; −inf stays −inf."""
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=generator) for generator in self._generators])
        return scores.float() - noise.clamp_min(torch.finfo(torch.float32).tiny).log().to(scores.device)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _load(weights: str) -> tuple[BlipForConditionalGeneration, PreTrainedTokenizerBase, dict[str, object]]:
    """Model, tokenizer and settings of the image processor. Raises UserError of one line if they cannot be loaded."""
    from transformers import AutoTokenizer, BlipForConditionalGeneration

    with loading("--caption_weights", weights, "BLIP captioning"):
        model = BlipForConditionalGeneration.from_pretrained(weights, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(weights)
    words = model.config.text_config.vocab_size
    if len(tokenizer) < words // 2:  # transformers creates an empty tokenizer if its files are missing
        raise UserError(
            coded(
                "TOOL-003", f"--caption_weights: {weights}: has no tokenizer for the model's {words} words; add tokenizer.json or vocab.txt"
            )
        )
    return model, tokenizer, processor_settings(weights)


def processor_settings(weights: str) -> dict[str, object]:
    """The folder's preprocessor_config.json, without the processor class, which requires torchvision."""
    from transformers.utils import cached_file

    try:
        path = cached_file(weights, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        settings: dict[str, object] = parse_json(read_text(Path(path), "utf-8")) if path else {}
        return settings
    except (OSError, ValueError):
        return {}
