"""CLIP's tokenizer with its vocabulary included (no network), which splits captions into windows of 75 tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from library.errors import UserError, coded
from library.model.family import ModelFamily
from library.model.text.prompt_weights import parse
from library.model.text.vocabulary import ENTRIES, merges, vocabulary
from library.paths.look import is_folder, shown
from library.words import counted

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPTokenizer

BEGIN, END = 49406, 49407
WINDOW = 75  # tokens per window; begin and end make it 77


class ClipTokenizer:
    """Turns captions into ids [N,77], N = max_token_length / 75 windows, each with a begin and an end; can be sent to loader workers.

    `weighted` parses "(a:1.2)" as weights and returns them with the ids. `tokenizer` is the one of transformers. With several text encoders
    the padding of the first one is used.
    """

    def __init__(
        self, family: ModelFamily, max_token_length: int | None = None, weighted: bool = False, cache_dir: str | Path | None = None
    ) -> None:
        self.windows = (max_token_length or WINDOW) // WINDOW
        self.weighted = weighted
        self.padding = family.reader.padding
        self.stands_for: dict[int, tuple[int, ...]] = {}  # id of an added word -> the ids that replace it
        self._without: CLIPTokenizer | None = None  # the tokenizer before words were added
        self.tokenizer = _kept_tokenizer(Path(cache_dir), family) if cache_dir else build_tokenizer(self.padding)

    def with_settings(self, windows: int, weighted: bool) -> ClipTokenizer:
        """Return a tokenizer with the same vocabulary, added tokens included, and other windows and weights."""
        twin = object.__new__(ClipTokenizer)
        twin.__dict__.update(self.__dict__, windows=windows, weighted=weighted)
        return twin

    def with_word(self, word: str, vectors: int, first: int = 0) -> ClipTokenizer:
        """Return a tokenizer with a new whole word, in any letter case, for `vectors` ids from ENTRIES + `first` on."""
        from tokenizers import AddedToken

        twin = self.with_settings(self.windows, self.weighted)
        twin._without = self._without or self.tokenizer
        twin.tokenizer = copy.deepcopy(self.tokenizer)
        new = len(twin.tokenizer)
        twin.tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True)])
        assert len(twin.tokenizer) == new + 1, f"{word!r} is already in the vocabulary, or was added before"
        twin.stands_for = self.stands_for | {new: tuple(range(ENTRIES + first, ENTRIES + first + vectors))}
        return twin

    def without_words(self) -> ClipTokenizer:
        """Return the tokenizer without all added words."""
        twin = self.with_settings(self.windows, self.weighted)
        twin.tokenizer, twin._without, twin.stands_for = self._without or self.tokenizer, None, {}
        return twin

    def __call__(self, caption: str) -> tuple[Tensor, Tensor | None]:
        """Return ids [N,77] and weights [N,77] (1 for begin, end and padding; None if unweighted)."""
        import torch  # here, since finding lost words does not need it

        ids, weights, _ = self._tokens(caption)
        rows, factors = [], []
        for window in range(self.windows):
            part = slice(window * WINDOW, (window + 1) * WINDOW)
            empty = WINDOW - len(ids[part])
            rows.append([BEGIN, *ids[part], END, *[self.padding] * empty])
            factors.append([1.0, *weights[part], 1.0, *[1.0] * empty])
        return torch.tensor(rows), torch.tensor(factors) if self.weighted else None

    def windows_needed(self, caption: str) -> int:
        """Return how many windows the whole caption needs, at least 1."""
        return max(1, -(-len(self._tokens(caption)[0]) // WINDOW))

    def lost_words(self, caption: str) -> str:
        """Return the end of the caption that does not fit into the windows; "" if it fits."""
        return self._tokens(caption)[2]

    def _tokens(self, caption: str) -> tuple[list[int], list[float], str]:
        """Return all ids of the caption without begin and end, a weight for each, and the text after the last id that fits."""
        ids: list[int] = []
        weights: list[float] = []
        lost: list[str] = []
        limit = self.windows * WINDOW
        for text, weight in parse(caption) if self.weighted else [(caption, 1.0)]:
            tokens = self._ids_and_starts(text)
            first_lost = max(limit - len(ids), 0)
            if first_lost < len(tokens):
                lost.append(text[tokens[first_lost][1] :].strip())
            ids += [entry for entry, _ in tokens]
            weights += [weight] * len(tokens)
        return ids, weights, " ".join(lost)

    def count_each(self, texts: Sequence[str]) -> list[int]:
        """Return how many ids each text has, without begin and end."""
        rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        return [sum(len(self.stands_for.get(entry, (entry,))) for entry in row) if self.stands_for else len(row) for row in rows]

    def _ids_and_starts(self, text: str) -> list[tuple[int, int]]:
        """Return (id, start in the text) for each token, with added words replaced."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [(one, begin) for entry, (begin, _) in pairs for one in self.stands_for.get(entry, (entry,))]


def too_long(captions: Iterable[str], tokenizer: ClipTokenizer) -> list[tuple[str, str]]:
    """Return the distinct captions that do not fit into the tokenizer's windows, each with its lost words.

    Counts each distinct word once, which is far faster than reading every caption if many captions share few words: no token spans a
    space.
    """
    room = tokenizer.windows * WINDOW
    distinct = {caption: caption.split() for caption in captions}
    every = list(dict.fromkeys(word for words in distinct.values() for word in words))
    counts = dict(zip(every, tokenizer.count_each(every), strict=True))
    long = [caption for caption, words in distinct.items() if sum(map(counts.__getitem__, words)) > room]
    return [(caption, lost) for caption in long if (lost := tokenizer.lost_words(caption))]


def without_padding(input_ids: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Truncate ids [B,1,77] (and weights) of single windows after the end token of the longest caption: [B,1,T]."""
    assert input_ids.shape[1] == 1, "only captions of one window have their padding at the end"
    longest = 1 + int((input_ids == END).int().argmax(dim=-1).max())
    return input_ids[:, :, :longest], None if weights is None else weights[:, :, :longest]


def build_tokenizer(padding: int) -> CLIPTokenizer:
    """Build transformers' CLIPTokenizer from the vocabulary in this folder; `padding` is the id that fills windows."""
    from transformers import CLIPTokenizer

    entries = vocabulary()
    tokenizer = CLIPTokenizer(vocab=dict(entries), merges=list(merges()), pad_token=list(entries)[padding], model_max_length=WINDOW + 2)
    assert len(tokenizer) == ENTRIES and tokenizer.bos_token_id == BEGIN and tokenizer.eos_token_id == END
    return tokenizer


def _kept_tokenizer(folder: Path, family: ModelFamily) -> CLIPTokenizer:
    """Return the tokenizer saved in `folder`; saves ours there if the folder has no tokenizer."""
    from transformers import CLIPTokenizer

    place = folder / family.reader.tokenizer_folder
    if not is_folder(place):
        tokenizer = build_tokenizer(family.reader.padding)
        try:
            tokenizer.save_pretrained(place)
        except OSError as fault:
            raise UserError(
                coded("PATH-005", f"--tokenizer_cache_dir: {shown(place)} cannot be written ({fault.strerror or fault}); choose another")
            ) from fault
        return tokenizer
    try:
        tokenizer = CLIPTokenizer.from_pretrained(place, local_files_only=True)
        entries = len(tokenizer)
    except (OSError, ValueError) as fault:
        raise UserError(
            coded("MODEL-013", f"--tokenizer_cache_dir: no tokenizer can be read from {place} ({fault}); delete that folder")
        ) from fault
    if entries < ENTRIES:
        raise UserError(
            coded(
                "MODEL-013",
                f"--tokenizer_cache_dir: {place} has {counted(entries, 'entry', 'entries')}, not CLIP's {ENTRIES:,}; delete that folder",
            )
        )
    return tokenizer
