"""Whether a new word can be trained: it is new, and the captions hold it. Known before anything heavy is loaded."""

from __future__ import annotations

import re

from library.console import log
from library.errors import UserError, coded
from library.model.text.vocabulary import is_entry, is_one_token
from library.options.groups.scripts import TrainTextualInversion
from library.training.planning.inputs import Inputs


def check_word(options: TrainTextualInversion, inputs: Inputs) -> None:
    """Raise UserError for a `--token_string` that the model knows already, and warn where captions lack it."""
    word = options.word.word
    if is_entry(word):
        raise UserError(
            coded("MODEL-014", f"--token_string {word}: is a word that the model already knows; choose another, such as {word}-mine")
        )
    if is_one_token(word):
        log.warning(f"--token_string {word}: the model has a token with that name; with the embedding loaded, the word means the embedding")
    if options.word.makes_captions:
        if any(record.subset.is_reg for record in inputs.data.records):
            log.warning("--use_…_template: regularization images get these captions too; remove them, or write your own captions")
        return
    trained = inputs.source.trained_captions()
    lacking = [name for name, caption in trained if not _holds(caption, word)]
    if not inputs.source.captions_are_whole:
        if len(lacking) == len(trained):
            log.warning(f"--token_string {word}: is in no caption of the first batch; batches without it teach it nothing")
        return
    if len(lacking) == len(trained):
        log.warning(
            f"--token_string {word}: is in none of the {len(trained)} captions, so nothing is learned; "
            "add it to them, or set --use_object_template or --use_style_template"
        )
    elif lacking:
        shown = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        count = f"{len(lacking)} of {len(trained)} captions ({shown})"
        log.warning(f"--token_string {word}: is missing in {count}, which teach it nothing; add it to them")


def _holds(caption: str, word: str) -> bool:
    """Whether the caption has `word` as a whole word, in any letter case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", caption, re.IGNORECASE) is not None
