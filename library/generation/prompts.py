"""The prompts that a command names, by --prompt or --from_file, with what its options leave open filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from library.console import log
from library.options.tool_groups.pictures import PictureSizeOptions
from library.pictures.prompt_files import PromptReader, SamplePrompt
from library.pictures.prompt_options import Language

SIDE = 512  # pixels, where nothing says another


class Prompts(Protocol):
    """The options of a tool that takes prompts, of which one is given (`checks.prompt_faults`)."""

    @property
    def prompt(self) -> str | None:
        """The prompt itself."""

    @property
    def from_file(self) -> str | None:
        """A file of them."""


def prompts_of(given: Prompts, pictures: PictureSizeOptions, language: Language, side: int = SIDE) -> Sequence[SamplePrompt]:
    """The prompts in the order of the command; what is odd about them is told. Raises UserError for their faults.

    `side` is that of a picture of which neither prompt nor options tell it, in pixels; 0 leaves it open.
    """
    defaults = SamplePrompt(
        "", width=pictures.W or side, height=pictures.H or side, steps=pictures.steps, guidance=pictures.scale, sampler=pictures.sampler
    )
    if given.from_file is not None:
        prompts, notes = PromptReader("--from_file", language, defaults).read(Path(given.from_file))
    else:
        prompts, notes = PromptReader("--prompt", language, defaults).read_one(given.prompt or "")
    for note in notes:
        log.warning(note)
    return prompts
