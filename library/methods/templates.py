"""Captions from templates, for Textual Inversion without captions: phrases for an image of a thing, or in a style."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from library.caption_rewriting import RewriteCaption
from library.model.text.vocabulary import words_in
from library.options.groups.scripts import TrainTextualInversion
from library.options.groups.textual_inversion import WordOptions

OBJECT = (
    "a photo of {}",
    "a photo of the {}",
    "a photo of one {}",
    "a picture of {}",
    "a snapshot of {}",
    "an image showing {}",
    "{} in a photo",
    "a close-up of {}",
    "a detailed shot of {}",
    "{} seen from nearby",
    "a wide shot with {}",
    "a cropped view of {}",
    "{} in the centre of the picture",
    "a well lit photo of {}",
    "a dim photo of {}",
    "a sharp photo of {}",
    "a grainy photo of {}",
    "a blurred photo of {}",
    "a colourful picture of {}",
    "a plain picture of {}",
    "a small {} in the picture",
    "a large {} in the picture",
    "a clean {}",
    "a worn {}",
    "my {}",
    "this is {}",
    "a beautiful {}",
    "an unusual view of {}",
)
STYLE = (
    "a painting in the style of {}",
    "a picture in the style of {}",
    "an artwork in the style of {}",
    "a drawing by {}",
    "a work by {}",
    "an illustration in {} style",
    "a scene in {} style",
    "a landscape in the style of {}",
    "a portrait in the style of {}",
    "a still life in the style of {}",
    "a city in the style of {}",
    "a detail of a picture in the style of {}",
    "a sketch in the style of {}",
    "a colourful painting in the style of {}",
    "a dark painting in the style of {}",
    "a bright painting in the style of {}",
    "a calm picture in the style of {}",
    "a lively picture in the style of {}",
    "a quiet scene by {}",
    "a large canvas by {}",
)


def asked(word: WordOptions) -> str | None:
    """Return the templates that the options of the new word request: "object", "style" or None."""
    return "object" if word.use_object_template else "style" if word.use_style_template else None


def rewriter(kind: str | None, words: Sequence[str]) -> RewriteCaption | None:
    """Return a function that replaces a caption by a template of this kind with the word in it; None to keep captions.

    With several words, an image's caption selects them: `a photo of my-cup and my-dog`. A caption without any of them stays.
    """
    if kind is None:
        return None
    templates = {"object": OBJECT, "style": STYLE}[kind]
    return partial(fill, templates, words[0]) if len(words) == 1 else partial(fill_named, templates, tuple(words))


def of_options(options: TrainTextualInversion) -> RewriteCaption | None:
    """The rewriter for the options of train_textual_inversion.py."""
    return rewriter(asked(options.word), [word.text for word in options.word.words])


def fill(templates: tuple[str, ...], word: str, caption: str, rng: random.Random) -> str:
    """Return a template with `word` instead of `caption`."""
    return rng.choice(templates).format(word)


def fill_named(templates: tuple[str, ...], words: tuple[str, ...], caption: str, rng: random.Random) -> str:
    """Return a template with those of `words` that `caption` contains, instead of `caption`."""
    named = words_in(caption, words)
    return fill(templates, " and ".join(named), caption, rng) if named else caption
