"""Showings that preserve the base model's knowledge (`--prior_from_base`): which showings they are and what their captions say.

Their target is the prediction of the untrained model, so no class images are needed: the model gets the train image with a caption
that names only the class. All functions depend only on the showing's seed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from library.caption_rewriting import RewriteCaption
from library.data.batching.buckets import FilledData
from library.data.batching.captions import Position, text_of_draw
from library.data.batching.sampler import SampleRequest
from library.data.batching.wildcards import drawn_text, replaced
from library.data.config.blueprint import SubsetOptions
from library.data.scan.caption_files import split_tags
from library.seeds import fold, python_rng


@dataclass(frozen=True)
class DrawnText:
    """The caption of a showing; if `is_prior`, the base model's prediction is its target."""

    text: str
    is_prior: bool = False


def drawn_caption(filled: FilledData, request: SampleRequest, position: Position, rewrite: RewriteCaption) -> DrawnText:
    """The text of this showing, and whether it is a `--prior_from_base` showing. These are

    * all showings of regularization images, with their own captions;
    * a share of the others, chosen by seed; the prompt replaces the identifier, or the whole caption if there is no identifier;
    * showings whose final caption contains one of the prompts but not the identifier, if both are set.
    """
    record = filled.records[request.record]
    subset = record.subset
    text = text_of_draw(record.caption, subset, request.seed, position, rewrite)
    if filled.prior_from_base is None:
        return DrawnText(text)
    if subset.is_reg:
        return DrawnText(text, True)
    if python_rng(request.seed, "prior").random() < subset.prior_share:
        return DrawnText(prior_text(text, subset, request.seed), True)
    return DrawnText(text, _names_the_class_alone(text, subset))


def prior_text(text: str, subset: SubsetOptions, seed: int) -> str:
    """`text` with the identifier replaced by a prompt; only the prompt if there is no identifier."""
    prompts = subset.prior_prompt
    prompt = prompts[python_rng(seed, "prior prompt").randrange(len(prompts))] if prompts else ""
    prompt = drawn_text(prompt, fold(seed, "prior prompt"))
    if not subset.prior_identifier:
        return prompt
    identifier = _words(subset.prior_identifier)
    if prompt or not identifier.search(text):
        return identifier.sub(lambda _: prompt, text)
    tags = (" ".join(tag.split()) for tag in split_tags(identifier.sub("", text), subset.caption_separator))
    return ", ".join(tag for tag in tags if tag)


def longest_prompts(subset: SubsetOptions) -> list[str]:
    """Each prompt with the longest part of every wildcard."""
    return [replaced(prompt, lambda parts: max(parts, key=len)) for prompt in subset.prior_prompt]


def has_words(text: str, words: str) -> bool:
    """Whether `text` contains `words` as separate words, ignoring case, as the tokenizer reads them: "sks" in "a Sks dog"."""
    return _words(words).search(text) is not None


def _names_the_class_alone(text: str, subset: SubsetOptions) -> bool:
    if not subset.prior_identifier or has_words(text, subset.prior_identifier):
        return False
    return any(prompt and has_words(text, prompt) for prompt in subset.prior_prompt)


def _words(words: str) -> re.Pattern[str]:
    parts = r"\s+".join(re.escape(part) for part in words.split())
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)
