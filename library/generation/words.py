"""New words of Textual Inversion and XTI files, as prompts write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from library.console import log
from library.containers.weights_file import is_image_file, open_weights
from library.errors import UserError, coded
from library.model.bundle import StableDiffusion
from library.model.files.embedding_files import read_any_vectors
from library.model.new_words import add_words, cross_attentions, embedding_table, side_by_side
from library.model.text.vocabulary import is_entry


def teach_words(model: StableDiffusion, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Teach the model the words of embedding files (option, file): the file's name without its ending and, where a file tells it, the word
    that it was trained with. Returns word -> file. Raises UserError for a file that does not fit, or whose words cannot be told apart.
    """
    if not files:
        return {}
    layers, width = tuple(cross_attentions(model.unet)), embedding_table(model.text_encoder).weight.shape[1]
    vectors: dict[str, Tensor] = {}
    taught: dict[str, Path] = {}
    for option, file in files:
        found, words = read_any_vectors(file, layers, width, option), _words(file, option)
        for word in words:
            if any(word.lower() == other.lower() for other in taught):
                told = f"the word {word!r} is that of {taught[next(o for o in taught if o.lower() == word.lower())]} too"
                raise UserError(coded("MODEL-014", f"{option} {file}: {told}; rename one of the files"))
        vectors |= dict.fromkeys(words, found)
        taught |= dict.fromkeys(words, file)
        log.info(f"{option} {file}: {' or '.join(map(repr, words))} in prompts, {found.shape[1]} vectors")
    add_words(model, *side_by_side(vectors))
    return taught


def _words(file: Path, option: str) -> list[str]:
    """The new words of a file, the file's name first."""
    found = [word for word in dict.fromkeys([file.stem, *_told(file, option)]) if word.strip() and not is_entry(word)]
    distinct = list({word.lower(): word for word in reversed(found)}.values())[::-1]
    if not distinct:
        told = f"{file.stem!r} is already a known word; rename the file, for example to {file.stem}-1{file.suffix}"
        raise UserError(coded("MODEL-014", f"{option} {file}: {told}"))
    return distinct


def _told(file: Path, option: str) -> Iterator[str]:
    """The word that a .safetensors of ours tells of itself."""
    if is_image_file(file) or file.suffix.lower() != ".safetensors":
        return
    metadata: Mapping[str, str] = open_weights(file, option).metadata
    word = metadata.get("ss_token_string", "")
    if word and len(word.split()) == 1:
        yield word
