"""Checks before anything heavy is loaded that new words can be trained: they are new, distinguishable and used in the captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from library.console import log
from library.errors import Problem, UserError, coded
from library.model.text.vocabulary import is_entry, is_one_token, words_in
from library.options.groups.scripts import TrainingScript, TrainNetwork
from library.options.groups.textual_inversion import NewWordChoice, PivotalOptions
from library.options.word_names import name_faults
from library.training.planning.inputs import Inputs
from library.words import counted, cut, quoted, verb


def check_words(options: TrainingScript, inputs: Inputs) -> None:
    """Raise UserError for words of `--token_string` that the model knows already, that are not distinguishable or, with a network, that are
    in no caption.

    Warns where captions lack the words.
    """
    new_words = options.new_words
    if new_words is None:
        return
    words = [word.text for word in new_words.words]
    faults = list(_known(words))
    if isinstance(new_words, PivotalOptions) or len(words) > 1:
        faults += name_faults(words, bundled=isinstance(new_words, PivotalOptions) and new_words.save_words != "side")
    if faults:
        raise UserError(*faults)
    for word in filter(is_one_token, words):
        log.warning(
            f"--token_string {cut(word)}: the model already has a token with this name; with the embedding loaded it means the new word"
        )
    if new_words.makes_captions:
        _check_templates(words, inputs)
    else:
        pivotal = isinstance(new_words, PivotalOptions)
        templates = "" if pivotal else ", or use --use_object_template or --use_style_template"
        _check_captions(words, inputs, f"add it to them{templates}", pivotal)


def word_lines(options: TrainingScript) -> list[str]:
    """The new words for the plan: their vectors, where each starts from, and their learning rate."""
    new_words = options.new_words
    if new_words is None or not new_words.words:
        return []
    own = new_words.embedding_lr if isinstance(new_words, PivotalOptions) else None
    rate = options.optimizer.learning_rate if own is None else own
    stop = new_words.stop_embedding_training if isinstance(new_words, PivotalOptions) else None
    until = f" for {counted(stop, 'update')} (--stop_embedding_training)" if stop else ""
    what = "new word" if len(new_words.words) == 1 else "new words"
    where = isinstance(options, TrainNetwork) and options.network.network_weights is not None
    words = "; ".join(
        _described(word, "" if not where or word.weights else "as in --network_weights, otherwise ") for word in new_words.words
    )
    return [f"{what}: {words}; learning rate {rate:g}{until}"]


def _described(word: NewWordChoice, sooner: str) -> str:
    start = f"from {cut(word.weights.name)}" if word.weights else f"from {quoted(word.init_word)}" if word.init_word else "a random start"
    start = sooner + start
    return f"{cut(word.text)} ({word.vectors} vector{'s' if word.vectors > 1 else ''}, {start})"


def _known(words: Sequence[str]) -> Iterator[Problem]:
    for word in filter(is_entry, words):
        yield coded(
            "MODEL-014", f"--token_string {cut(word)}: is a word that the model already knows; choose another one, such as {cut(word)}-mine"
        )
    seen: dict[str, str] = {}
    for word in words:
        if word.lower() in seen:
            yield coded(
                "MODEL-018",
                f"--token_string {cut(word)}: is named twice (letter case does not count: {cut(seen[word.lower()])}); name each word once",
            )
        seen.setdefault(word.lower(), word)


def _check_templates(words: Sequence[str], inputs: Inputs) -> None:
    """Check the images of a template: with several words it uses those in the image's caption or class tokens."""
    if len(words) == 1:
        if any(record.subset.is_reg for record in inputs.data.records):
            log.warning("--use_…_template: regularization images get these captions too; remove them, or write your own captions")
        return
    lacking = [name for name, caption in inputs.source.trained_captions() if not words_in(caption, words)]
    if lacking and inputs.source.captions_are_whole:
        raise UserError(
            coded(
                "MODEL-018",
                f"--token_string {cut(' '.join(words))}: a template uses the words in an image's caption or class_tokens, and "
                f"{len(lacking)} name none ({_shown(lacking)}); name one with class_tokens in --dataset_config, or in the caption",
            )
        )
    _check_captions(words, inputs, "name it there, or remove it")


def _check_captions(words: Sequence[str], inputs: Inputs, remedy: str, with_network: bool = False) -> None:
    """Warn of words that are in no caption (`with_network`: raise UserError), and of captions without any of the words."""
    trained = inputs.source.trained_captions()
    held = [(name, words_in(caption, words)) for name, caption in trained]
    faults: list[Problem] = []
    for word in words:
        if any(word in present for _, present in held):
            continue
        if inputs.source.captions_are_whole:
            line = (
                f"--token_string {cut(word)}: is in none of the captions and class_tokens ({len(trained)}), so it learns nothing; {remedy}"
            )
            if with_network:
                faults.append(coded("MODEL-019", line))
            else:  # sd-scripts trains on, and front-ends of it rely on that
                log.warning(line)
        else:
            log.warning(f"--token_string {cut(word)}: is in no caption of the first batch; batches without it do not train it")
    if faults:
        raise UserError(*faults)
    lacking = [name for name, present in held if not present]
    if inputs.source.captions_are_whole and 0 < len(lacking) < len(trained):
        count = f"{len(lacking)} of {len(trained)} captions ({_shown(lacking)})"  # more than one: lacking are not all
        many = verb(len(lacking), "contains none of them and does not train them", "contain none of them and do not train them")
        one = verb(len(lacking), "does not train it", "do not train it")
        problem = f"is missing in {count}, which {one}" if len(words) == 1 else f"{count} {many}"
        log.warning(f"--token_string {cut(' '.join(words))}: {problem}; add it to them")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
