"""A whole run of tools/compare_networks.py: loads the model once, applies the networks in turn, and skips existing images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log, progress
from library.data.batching.buckets import FilledData
from library.errors import UserError, coded
from library.files import sha256
from library.generation.checks import NetworkChoice, precision_faults, prompt_faults
from library.generation.comparing.cells import KEY, Cell, Column, cells, facts_of
from library.generation.comparing.columns import labels_of, network_files
from library.generation.comparing.grid import Grid, name_of, title_of
from library.generation.comparing.losses import LossBook, gathered, standings, verdict
from library.generation.plan import Picture
from library.generation.prompts import prompts_of
from library.generation.writing import into
from library.light_imports.models import import_models
from library.model.files.facts import check_flags, inspect
from library.options.tool_groups.pictures import CompareNetworks
from library.pictures.png_texts import PARAMETERS, description, used_settings, write_png
from library.pictures.prompt_files import SamplePrompt
from library.pictures.prompt_options import SAMPLES
from library.words import counted

if TYPE_CHECKING:
    from library.generation.comparing.measuring import Measure
    from library.generation.drawing import Studio


def compare(options: CompareNetworks) -> None:
    """Generate missing images, measure missing losses, and write page and sheet. Raises UserError for every error that the user can fix."""
    _check(options)
    files = network_files(options.compared.networks)
    prompts = prompts_of(options.prompts, options.pictures, SAMPLES)
    data = gathered(options.loss)
    model = options.model
    check_flags(inspect(model.ckpt, "--ckpt"), model.v2, model.v_parameterization, model.vae, model.clip_skip)
    Comparison(options, _columns(options, files), prompts, data).run()


class Comparison:
    """The grid of a command, and what it still lacks."""

    def __init__(
        self, options: CompareNetworks, columns: Sequence[Column], prompts: Sequence[SamplePrompt], data: FilledData | None
    ) -> None:
        self._options, self._folder, self._columns, self._data = options, options.output.outdir, columns, data
        shared = facts_of(options.model, options.work, options.pictures.sampler)
        self._rows = cells(prompts, options.prompts.seed, columns, shared, self._folder)
        self._hashes = {column.choice.file: sha256(column.choice.file) for column in columns if column.choice is not None}
        self._book = LossBook(self._folder, data, options.loss.validation_seed, shared) if data is not None else None

    def run(self) -> None:
        """Work column by column, and rewrite the page after each file."""
        began, missing = time.time(), self._missing()
        todo = sum(map(len, missing.values()))
        total = len(self._columns) * len(self._rows)
        log.info(f"images: {total} in all, " + (f"{total - todo} exist, " if total > todo else "") + f"{todo} to generate")
        if todo or not self._is_measured():
            self._fill(missing, todo)
        page, sheet = self._write(running=False)
        if self._book is not None:
            log.info(self._grid().verdict)
        log.info(f"comparison: {page} and {sheet}, {counted(todo, 'image')} generated in {time.time() - began:.0f} s")

    def _missing(self) -> dict[int, list[Cell]]:
        """Return the cells without an image, by column."""
        return {place: [row[place] for row in self._rows if not row[place].is_there()] for place in range(len(self._columns))}

    def _is_measured(self) -> bool:
        return self._book is None or all(self._losses(column) is not None for column in self._columns)

    def _losses(self, column: Column) -> list[float] | None:
        assert self._book is not None
        return self._book.of(column, "" if column.choice is None else self._hashes[column.choice.file])

    def _fill(self, missing: dict[int, list[Cell]], todo: int) -> None:
        import_models()
        from library.generation.drawing import Studio

        studio, measure = Studio.load(self._options.model, self._options.work), None
        if self._data is not None and not self._is_measured():
            from library.generation.comparing.measuring import Measure

            measure = Measure(studio, self._data, self._options.loss.validation_seed)
        with progress(total=todo, label="generating", unit="image") as bar:
            for places in self._by_file():
                unmeasured = [place for place in places if measure is not None and self._losses(self._columns[place]) is None]
                if not any(missing[place] for place in places) and not unmeasured:
                    continue
                choice = self._columns[places[0]].choice
                studio = studio.with_networks([] if choice is None else [choice])
                for place in places:
                    for drawn in self._draw(studio, missing[place]):
                        bar.update(drawn)
                    if measure is not None and place in unmeasured:
                        self._measure(studio, measure, self._columns[place])
                self._write(running=True)

    def _by_file(self) -> list[list[int]]:
        """Group the indexes of the columns by file."""
        groups: dict[Path | None, list[int]] = {}
        for place, column in enumerate(self._columns):
            groups.setdefault(column.choice.file if column.choice is not None else None, []).append(place)
        return list(groups.values())

    def _draw(self, studio: Studio, missing: Sequence[Cell]) -> Sequence[int]:
        drawn = []
        strength = [(cell.column.strength,) if cell.column.choice is not None else () for cell in missing]
        pictures = [Picture(number, replace(cell.prompt, strengths=strength[number]), cell.seed) for number, cell in enumerate(missing)]
        for batch in studio.batches(pictures, self._options.work.batch_size):
            for picture, image in zip(batch, studio.draw(batch), strict=True):
                cell = missing[picture.number]
                with into(self._folder):
                    write_png(cell.path, image, self._texts(cell, picture.sampler))
            drawn.append(len(batch))
        return drawn

    def _texts(self, cell: Cell, sampler: str) -> dict[str, str]:
        prompt = cell.prompt
        used = used_settings(prompt.steps, sampler, prompt.guidance, cell.seed, (prompt.width, prompt.height))
        used |= {"Model": Path(self._options.model.ckpt).stem}
        if cell.column.choice is not None:
            used |= {"Network": f"{cell.column.label}, strength {cell.column.strength:g}"}
        return {PARAMETERS: description(prompt.prompt, prompt.negative, used), KEY: cell.key}

    def _measure(self, studio: Studio, measure: Measure, column: Column) -> None:
        assert self._book is not None
        for network in studio.networks:
            network.set_strength(column.strength)
        losses = measure.losses()
        with into(self._folder):
            self._book.add(column, "" if column.choice is None else self._hashes[column.choice.file], losses)

    def _grid(self) -> Grid:
        grid = Grid(title_of(self._columns), self._columns, self._rows)
        losses = [] if self._book is None else [self._losses(column) for column in self._columns]
        known = [of_column for of_column in losses if of_column is not None]
        if not known or len(known) < len(self._columns):
            return grid
        compared = standings(known)
        labels = [name_of(column, grid.has_strengths()) for column in self._columns]
        return replace(grid, losses=compared, verdict=verdict(labels, compared, len(known[0])))

    def _write(self, running: bool) -> tuple[Path, Path]:
        from library.generation.comparing.page import write_page
        from library.generation.comparing.sheet import write_sheet

        grid = self._grid()
        with into(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            return write_page(grid, self._folder, running), write_sheet(grid, self._folder)


def _check(options: CompareNetworks) -> None:
    problems = [*prompt_faults(options.prompts), *precision_faults(options.work)]
    if options.loss.images is not None and options.loss.dataset_config is not None:
        problems.append(coded("OPT-008", "--images, --dataset_config: use one or the other"))
    if problems:
        raise UserError(*problems)


def _columns(options: CompareNetworks, files: Sequence[Path]) -> list[Column]:
    strengths, module = options.compared.strengths or (1.0,), options.compared.network_module
    without = [Column(None, 0.0, "without network")] if options.compared.without else []
    return without + [
        Column(NetworkChoice(file, module, option="--networks"), strength, label)
        for file, label in zip(files, labels_of(files), strict=True)
        for strength in strengths
    ]
