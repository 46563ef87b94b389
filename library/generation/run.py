"""A whole run of gen_img.py: all checks come before the model loads, then images are generated and written."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Container, Iterator
from pathlib import Path

from library.console import log, progress
from library.generation.checks import check
from library.generation.plan import Picture, planned
from library.generation.writing import into
from library.light_imports.models import import_models
from library.model.files.facts import check_flags, inspect
from library.options.tool_groups.pictures import GenImg, PictureOutputOptions
from library.paths.listing import names_in
from library.paths.look import is_folder
from library.pictures.png_texts import write_png

_NUMBERED = re.compile(r"im_(\d{6,})\.png", re.IGNORECASE)


def draw_pictures(options: GenImg) -> None:
    """Generate all requested images into --outdir. Raises UserError for every error that the user can fix."""
    check(options)
    files = options.model
    facts = inspect(files.ckpt, "--ckpt")
    pictures = planned(options, facts.inpaints)
    check_flags(facts, files.v2, files.v_parameterization, files.vae, files.clip_skip)
    import_models()
    from library.generation.drawing import Studio
    from library.generation.telling import texts_of
    from library.generation.words import unknown_words

    studio = Studio.of(options)
    texts = (text for picture in pictures for text in (picture.prompt.prompt, picture.prompt.negative))
    if line := unknown_words(texts, studio.words):
        log.warning(line)
    names = _names(options.output, pictures)
    began, paths = time.time(), []
    with progress(total=len(pictures), label="generating", unit="image") as bar:
        for batch in studio.batches(pictures, options.work.batch_size):
            for picture, image in zip(batch, studio.draw(batch), strict=True):
                path = options.output.outdir / next(names)
                with into(options.output.outdir):
                    write_png(path, image, texts_of(studio, options, picture))
                paths.append(path)
                bar.update()
    shown = paths[0] if len(paths) == 1 else options.output.outdir
    log.info(f"images: {len(paths)} in {time.time() - began:.0f} s, in {shown}")


def _names(output: PictureOutputOptions, pictures: list[Picture]) -> Iterator[str]:
    """Return the names of the files, in order."""
    if output.sequential_file_name:
        numbers = [int(match[1]) for name in _there(output.outdir) if (match := _NUMBERED.fullmatch(name))]
        first = max(numbers, default=0) + 1
        return (f"im_{first + place:06d}.png" for place in range(len(pictures)))
    now, there = time.strftime("%Y%m%d%H%M%S"), set(_there(output.outdir))
    return (_free(f"im_{now}_{picture.number:03d}_{picture.seed}", there) for picture in pictures)


def _free(stem: str, there: Container[str]) -> str:
    """Return the name, with a number appended if another run in the same second has taken it."""
    names = itertools.chain([f"{stem}.png"], (f"{stem}_{number}.png" for number in itertools.count(2)))
    return next(name for name in names if name not in there)


def _there(folder: Path) -> list[str]:
    return list(names_in(folder)) if is_folder(folder) else []
