"""New words for a text encoder: vectors in addition to the vocabulary's table, for all layers of the U-Net or for each one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from library.model.text.conditioning import CaptionReader, Conditioning, TextEncoders
from library.model.text.vocabulary import ENTRIES

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel

    from library.model.bundle import StableDiffusion


class NewWord(nn.Module):
    """The vectors of one new word, float32 [L,V,D]: V vectors for the whole U-Net (L = 1) or for each of its L layers."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.detach().to(torch.float32, copy=True))


class ExtendedTable(nn.Module):
    """Replaces the encoder's embedding: ids from ENTRIES on are rows of the new word, the others are rows of the old table.

    The table is neither copied nor enlarged, so it has no gradient and no optimizer state, and does not change.
    """

    def __init__(self, table: nn.Embedding, word: NewWord) -> None:
        super().__init__()
        self.table, self.word = table, word

    @property
    def weight(self) -> Tensor:
        """The old table [ENTRIES, D]."""
        return self.table.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up ids [...] -> vectors [..., D] in the table's dtype."""
        new = input_ids >= ENTRIES
        known = self.table(input_ids.masked_fill(new, 0))
        rows = self.word.vectors.flatten(0, 1).to(known.dtype)
        return torch.where(new[..., None], F.embedding((input_ids - ENTRIES).clamp(min=0), rows), known)


@dataclass(frozen=True)
class LayeredReader:
    """Reads a caption once for each cross-attention layer, with that layer's vectors of the new word (Voynov et al. 2023, sec. 3)."""

    read: CaptionReader
    layers: int
    vectors: int  # per layer

    def __call__(self, text_encoders: TextEncoders, input_ids: Tensor, token_weights: Tensor | None, clip_skip: int | None) -> Conditioning:
        """Read ids [B,N,77] -> the contexts of all layers, concatenated to [B,T,L·D]; the pooled embedding is the mean over the layers."""
        shift = torch.arange(self.layers, device=input_ids.device).view(-1, 1, 1, 1) * self.vectors
        ids = input_ids + shift * (input_ids >= ENTRIES)  # [L,B,N,77]
        weights = None if token_weights is None else token_weights.expand(self.layers, *token_weights.shape).flatten(0, 1)
        by_layer = self.read(text_encoders, ids.flatten(0, 1), weights, clip_skip)
        contexts = _by_layer(by_layer.context, self.layers).permute(1, 2, 0, 3).flatten(2)
        pooled = None if by_layer.pooled is None else _by_layer(by_layer.pooled, self.layers).mean(dim=0)
        return replace(by_layer, context=contexts, pooled=pooled)


def _by_layer(values: Tensor, layers: int) -> Tensor:
    """[L·B, …] -> [L,B,…]."""
    return values.reshape(layers, -1, *values.shape[1:])


def embedding_table(text_encoder: CLIPTextModel) -> nn.Embedding:
    """The encoder's table of vectors [ENTRIES, D]."""
    table: nn.Embedding = getattr(text_encoder, "text_model", text_encoder).embeddings.token_embedding
    return table


def add_word(model: StableDiffusion, text: str, word: NewWord) -> None:
    """Add a word to the model's tokenizer and text encoder; with several layers its U-Net then reads a context for each.

    `text` must not be an entry of the vocabulary (`library.model.text.vocabulary.is_entry`).
    """
    add_words(model, {text: range(word.vectors.shape[1])}, word)


def add_words(model: StableDiffusion, words: Mapping[str, range], all_of_them: NewWord) -> None:
    """As `add_word`, for several words: each of `words` uses some of the vectors of `all_of_them`."""
    layers, vectors, width = all_of_them.vectors.shape
    for text, places in words.items():
        model.tokenizer = model.tokenizer.with_word(text, len(places), places.start)
    embeddings = getattr(model.text_encoder, "text_model", model.text_encoder).embeddings
    embeddings.token_embedding = ExtendedTable(embeddings.token_embedding, all_of_them)
    if layers > 1:
        attentions = cross_attentions(model.unet)
        assert len(attentions) == layers, f"{layers} layers of vectors for {len(attentions)} cross-attentions"
        model.reader = LayeredReader(model.family.read, layers, vectors)
        for place, attention in enumerate(attentions.values()):
            attention.register_forward_pre_hook(partial(_own_context, place, width), with_kwargs=True)


def forget_words(model: StableDiffusion) -> None:
    """Remove all words of `add_words` from the model, if any. Not for words with several layers."""
    embeddings = getattr(model.text_encoder, "text_model", model.text_encoder).embeddings
    extended = embeddings.token_embedding
    if isinstance(extended, ExtendedTable):
        assert len(extended.word.vectors) == 1, "the U-Net reads a context for each layer"
        embeddings.token_embedding = extended.table
        model.tokenizer = model.tokenizer.without_words()


def side_by_side(words: Mapping[str, Tensor]) -> tuple[dict[str, range], NewWord]:
    """Join the vectors [L,V,D] of several words; those for the whole U-Net (L = 1) are repeated if others have L layers."""
    layers = max(len(vectors) for vectors in words.values())
    ends = list(accumulate(vectors.shape[1] for vectors in words.values()))
    places = {text: range(end - vectors.shape[1], end) for (text, vectors), end in zip(words.items(), ends, strict=True)}
    return places, NewWord(torch.cat([vectors.expand(layers, -1, -1) for vectors in words.values()], dim=1))


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """The U-Net's cross-attentions in the order of computation, with the names of XTI files: IN01 … MID … OUT11 for Stable Diffusion v1."""
    attentions: dict[str, Transformer2DModel] = {}
    for level, block in enumerate(unet.down_blocks):
        for layer, attention in enumerate(getattr(block, "attentions", ())):
            attentions[f"IN{1 + level * (len(block.resnets) + 1) + layer:02d}"] = attention
    attentions["MID"] = unet.mid_block.attentions[0]
    for level, block in enumerate(unet.up_blocks):
        for layer, attention in enumerate(getattr(block, "attentions", ())):
            attentions[f"OUT{level * len(block.resnets) + layer:02d}"] = attention
    return {name: attention.transformer_blocks[0].attn2 for name, attention in attentions.items()}


def _own_context(
    place: int, width: int, attention: nn.Module, args: tuple[object, ...], kwargs: dict[str, Any]
) -> tuple[tuple[object, ...], dict[str, Any]]:
    """Give a cross-attention the context at `place` of the concatenated contexts [B,T,L·D]."""
    contexts = kwargs["encoder_hidden_states"]
    return args, kwargs | {"encoder_hidden_states": contexts[..., place * width : (place + 1) * width]}
