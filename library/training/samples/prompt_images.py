"""Checks the images and masks that sample prompts for an inpainting model name, before torch is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from library.data.scan.image_headers import Unreadable, read_header
from library.errors import Problem, UserError, coded
from library.paths.faults import file_fault
from library.pictures.prompt_files import SamplePrompt


def check_images(prompts: Sequence[SamplePrompt], source: Path, train_inpainting: bool) -> None:
    """Raise UserError for images that cannot be read, or that do not apply to these samples; `source` is the prompt file."""
    problems = [problem for prompt in prompts for problem in _problems(prompt, f"--sample_prompts {source}", train_inpainting)]
    if problems:
        raise UserError(*dict.fromkeys(problems))


def _problems(prompt: SamplePrompt, where: str, train_inpainting: bool) -> Iterator[Problem]:
    shown = f"of prompt {prompt.prompt!r}"
    for letter, file in (("--i", prompt.image), ("--m", prompt.mask)):
        if file is None:
            continue
        if not train_inpainting:
            yield coded("CFG-013", f"{where}: {letter} {file} {shown}: applies only with --train_inpainting; remove it")
        elif wrong := file_fault(Path(file)):
            yield wrong.reworded(f"{where}: {letter} {shown}: {wrong}")
        elif fault := _unreadable(Path(file)):
            yield coded("CFG-013", f"{where}: {letter} {file} {shown}: {fault}; use another image")
    if prompt.mask is not None and prompt.image is None:
        yield coded("CFG-013", f"{where}: --m {prompt.mask} {shown}: is a mask without an image; add --i")


def _unreadable(file: Path) -> str:
    try:
        read_header(file)
    except Unreadable as fault:
        return str(fault)
    return ""
