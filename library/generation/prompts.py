"""The prompts of a command, from --prompt or --from_file, completed with its options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from library.console import log
from library.options.tool_groups.pictures import PictureSizeOptions
from library.pictures.prompt_files import PromptReader, SamplePrompt
from library.pictures.prompt_options import Language

SIDE = 512  # pixels, if nothing else is set


class Prompts(Protocol):
    """The options of a tool that takes prompts; exactly one is set (`checks.prompt_faults`)."""

    @property
    def prompt(self) -> str | None:
        """The prompt text."""

    @property
    def from_file(self) -> str | None:
        """A file with prompts."""


def prompts_of(source: Prompts, pictures: PictureSizeOptions, language: Language, side: int = SIDE) -> Sequence[SamplePrompt]:
    """Return the prompts in the order of the command, with warnings about unusual ones. Raises UserError for errors.

    `side` is the size in pixels if neither prompt nor options set one; 0 leaves it open.
    """
    defaults = SamplePrompt(
        "", width=pictures.W or side, height=pictures.H or side, steps=pictures.steps, guidance=pictures.scale, sampler=pictures.sampler
    )
    if source.from_file is not None:
        prompts, notes = PromptReader("--from_file", language, defaults).read(Path(source.from_file))
    else:
        prompts, notes = PromptReader("--prompt", language, defaults).read_one(source.prompt or "")
    for note in notes:
        log.warning(note)
    return prompts
