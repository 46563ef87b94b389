"""New words of Textual Inversion and XTI files, as prompts contain them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from library.console import log
from library.containers.weights_file import is_image_file, open_weights
from library.errors import UserError, coded
from library.lora.bundled.words import read_words
from library.model.bundle import StableDiffusion
from library.model.files.embedding_files import read_any_vectors
from library.model.new_words import add_words, cross_attentions, embedding_table, side_by_side
from library.model.text.vocabulary import is_entry
from library.words import counted, named

_BRACKETED = re.compile(r"<[^<>\s]+>")


def teach_words(model: StableDiffusion, files: Sequence[tuple[str, Path]], networks: Sequence[Path] = ()) -> dict[str, Path]:
    """Add the words of embedding files (option, file) to the model: the file's name without its ending and, if the file records it, the
    word it was trained with; also the words inside the files of `networks`. Returns word -> file. Raises UserError for a file that does not
    fit, or for ambiguous words.
    """
    table = embedding_table(model.text_encoder).weight
    layers, width = tuple(cross_attentions(model.unet)), table.shape[1]
    vectors: dict[str, Tensor] = {}
    taught: dict[str, Path] = {}
    for option, file in files:
        loaded, words = read_any_vectors(file, layers, width, option), _words(file, option)
        for word in words:
            if (other := _same(word, taught)) is not None:
                message = f"the word {word!r} is that of {taught[other]} too"
                raise UserError(coded("MODEL-014", f"{option} {file}: {message}; rename one of the files"))
        vectors |= dict.fromkeys(words, loaded)
        taught |= dict.fromkeys(words, file)
        log.info(f"{option} {file}: {' or '.join(map(repr, words))} in prompts, {counted(loaded.shape[1], 'vector')}")
    for file in networks:
        for word, loaded in _bundled(file, width):
            if (other := _same(word, taught)) is None:
                log.info(f"--network_weights {file}: {word!r} in prompts, {counted(loaded.shape[1], 'vector')}")
            elif not vectors[other].equal(loaded):
                message = f"the word {word!r} in it is that of {taught[other]} too, with other vectors"
                raise UserError(coded("MODEL-014", f"--network_weights {file}: {message}; leave one of the files out"))
            vectors.setdefault(other or word, loaded)
            taught.setdefault(other or word, file)
    if vectors:
        places, words_side_by_side = side_by_side(vectors)
        add_words(model, places, words_side_by_side.to(table.device))
    return taught


def unknown_words(prompts: Iterable[str], known: Collection[str]) -> str | None:
    """A line on words in angle brackets that no file has taught the model; None where there are none."""
    written = dict.fromkeys(word for prompt in prompts for word in _BRACKETED.findall(prompt))
    strange = [word for word in written if _same(word, known) is None]
    if not strange:
        return None
    taught = f"known are {named(list(known), 10)}" if known else "no file with words is given"
    remedy = "name their files with --textual_inversion_embeddings or --XTI_embeddings"
    if any(word.lower().startswith(("<lora:", "<lyco:")) for word in strange):
        remedy = "a LoRA is not applied by its name in the prompt: name its file with --network_weights"
    reading = f"{named(strange)} {'is' if len(strange) == 1 else 'are'} read as plain text"
    return f"--prompt, --from_file: {reading}, since no word has this name; {taught}; {remedy}"


def _same(word: str, words: Iterable[str]) -> str | None:
    """Return the one of `words` that equals `word` except for letter case; None if there is none."""
    return next((other for other in words if other.lower() == word.lower()), None)


def _bundled(file: Path, width: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the new words inside a network's file."""
    for word, vectors in read_words(file, width, "--network_weights").items():
        if word.strip() and not is_entry(word):
            yield word, vectors
        else:
            log.warning(f"--network_weights {file}: the word {word!r} in it means something already and is left out")


def _words(file: Path, option: str) -> list[str]:
    """Return the new words of a file, the file's name first."""
    usable = [word for word in dict.fromkeys([file.stem, *_recorded_word(file, option)]) if word.strip() and not is_entry(word)]
    distinct = list({word.lower(): word for word in reversed(usable)}.values())[::-1]
    if not distinct:
        message = f"{file.stem!r} is already a known word; rename the file, for example to {file.stem}-1{file.suffix}"
        raise UserError(coded("MODEL-014", f"{option} {file}: {message}"))
    return distinct


def _recorded_word(file: Path, option: str) -> Iterator[str]:
    """Yield the word that one of our .safetensors files records."""
    if is_image_file(file) or file.suffix.lower() != ".safetensors":
        return
    metadata: Mapping[str, str] = open_weights(file, option).metadata
    word = metadata.get("ss_token_string", "")
    if word and len(word.split()) == 1:
        yield word
