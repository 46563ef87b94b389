"""Draws sample images while training goes on, and leaves no trace in it: not in its random state, and not by failing."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.console import log
from library.errors import UserError, first_line
from library.model.family import family_of_flag
from library.options.groups.scripts import TrainingScript
from library.paths.look import exists
from library.paths.opening import read_bytes
from library.pictures.png_texts import PARAMETERS, description, used_settings, write_png
from library.pictures.prompt_files import SamplePrompt, read_prompts
from library.training.samples.prompt_images import check_images
from library.training.samples.sample_page import FACTS, SamplePage

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from library.model.bundle import StableDiffusion
    from library.model.drawing.generate import GenerateSettings
    from library.model.drawing.image_start import ImageStart

    Generate = Callable[[StableDiffusion, GenerateSettings, torch.device], Image]
SAMPLES = "sample"  # the folder below --output_dir
Rewrite = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class SamplePlan:
    """When samples are drawn and where they go. The prompts come from the file `source`; where it is changed, the new ones are drawn."""

    output_dir: Path
    output_name: str | None = None
    every_n_steps: int | None = None
    every_n_epochs: int | None = None
    sampler: str = "ddim"  # for prompts that name none
    clip_skip: int | None = None
    at_first: bool = False
    source: Path | None = None
    seed: int | None = None  # of the first prompt, where it names none; those of the others follow. None: drawn at random
    inpaints: bool = False  # by an inpainting model: prompts may name images and masks


class Samples:
    """When to draw which prompts, and where the images go: `<output_dir>/sample`.

    `drawn` and `failed` count images, `latest` are those of the last moment with their prompts. `generate` takes the place of
    `library.model.drawing.generate.generate`.
    """

    def __init__(self, prompts: Sequence[SamplePrompt], plan: SamplePlan, generate: Generate | None = None) -> None:
        self.prompts, self.plan, self._generate = tuple(prompts), plan, generate
        self._text = read_bytes(plan.source) if plan.source is not None and exists(plan.source) else None
        self.folder = Path(plan.output_dir) / SAMPLES
        self.drawn = self.failed = 0
        self.latest: list[tuple[Path, str]] = []
        self.page = SamplePage(self.folder, plan.output_name)
        self._page_failed = False

    @classmethod
    def from_options(cls, options: TrainingScript, generate: Generate | None = None) -> Samples | None:
        """What the options of sampling ask for; None for nothing. Raises UserError for faults of the prompt file."""
        given = options.sampling
        asked = given.sample_at_first or given.sample_every_n_steps is not None or given.sample_every_n_epochs is not None
        if given.sample_prompts is None or not asked:
            return None
        source = Path(given.sample_prompts)
        prompts, notes = read_prompts(source) if exists(source) else ((), ())  # that it is missing has been told; it may come
        for note in notes:
            log.warning(note)
        check_images(prompts, source, options.model.train_inpainting)
        plan = SamplePlan(
            options.saving.folder,
            options.saving.output_name,
            given.sample_every_n_steps,
            given.sample_every_n_epochs,
            given.sample_sampler,
            family_of_flag(options.model.v2).clip_skip(options.model.clip_skip),
            given.sample_at_first,
            source,
            given.sample_seed,
            options.model.train_inpainting,
        )
        return cls(prompts, plan, generate)

    def due_at_first(self, step: int) -> bool:
        """Whether to draw before the first update; a run that goes on has done so."""
        return self.plan.at_first and step == 0

    def moment_is_epoch(self) -> bool:
        """Whether files bear the number of an epoch."""
        return self.plan.every_n_epochs is not None

    def due(self, step: int, epoch: int, at_epoch_end: bool) -> bool:
        """Whether to draw after `step` updates and `epoch` whole epochs; with both intervals given the one in epochs counts."""
        steps, epochs = self.plan.every_n_steps, self.plan.every_n_epochs
        if epochs is not None:
            return at_epoch_end and epoch % epochs == 0
        return steps is not None and not at_epoch_end and step > 0 and step % steps == 0

    def draw(
        self,
        model: StableDiffusion,
        step: int,
        epoch: int | None,
        device: torch.device,
        rewrite: Rewrite | None = None,
        stop: Callable[[], bool] = lambda: False,
        session: str = "",
        there: Mapping[int, Path] | None = None,
    ) -> list[Path]:
        """Draw every prompt with `model` (a StableDiffusion) and return the files that were written; for the main process only.

        `epoch` is given at an epoch's end and then names the files. `rewrite` is what the method does to captions, `session` names the
        run in the files, and `there` (`drawn_at`) are those of this moment that need not be drawn. A prompt that fails is told
        and counted; random state is left as it was. Once `stop()` says so, no further image is begun.
        """
        self._read_again()
        moment = _moment(step, epoch)
        began, faults, left = time.time(), [], 0
        self.latest, facts = [], {"step": step, "epoch": epoch, "session": session}
        with untouched_random_state(device):
            for index, prompt in enumerate(self.prompts):
                if there is not None and index in there:
                    continue
                if stop():
                    left = len(self.prompts) - index
                    break
                try:
                    path = self._draw_one(model, prompt, index, moment, device, rewrite, facts)
                    self.latest.append((path, prompt.prompt))
                except Exception as error:  # out of memory, a full disk, a sampler's own fault: none is worth the training
                    faults.append(first_line(error))
        _give_back_memory(device)
        files = [path for path, _ in self.latest]
        self.drawn += len(files)
        self.failed += len(faults)
        where = ("of " + (f"epoch {epoch}" if epoch is not None else f"update {step}")) if step else "before training"
        if faults:
            log.warning(f"samples {where}: {len(faults)} of {len(self.prompts)} failed ({faults[0]}); training continues")
        if left:
            log.info(f"samples {where}: {left} of {len(self.prompts)} are skipped, since the run was asked to stop")
        if files:
            self.write_page(running=True)
            log.info(f"samples {where}: {len(files)} in {time.time() - began:.0f} s, in {self.folder}")
        return files

    def drawn_at(self, step: int, epoch: int | None, session: str) -> dict[int, Path]:
        """The images that this run has of a moment, by the index of their prompt."""
        found = [sample for sample in self.page.samples() if sample.moment == _moment(step, epoch)]
        return {sample.index: sample.path for sample in found if sample.session in (None, session) and sample.index < len(self.prompts)}

    def _read_again(self) -> None:
        """Take the prompts of a file that was changed during the run; a faulty one is told, and the prompts of before stay."""
        source = self.plan.source
        if source is None:
            return
        try:
            text = read_bytes(source)
        except OSError:  # it has gone: what it said is known
            return
        if text == self._text:
            return
        self._text = text
        try:
            prompts, notes = read_prompts(source)
            check_images(prompts, source, self.plan.inpaints)
        except UserError as fault:
            log.warning(f"{fault.problems[0]}; the previous prompts are used")
            return
        self.prompts = prompts
        for note in notes:
            log.warning(note)
        log.info(f"--sample_prompts {source}: was changed; {len(self.prompts)} prompts from now on")

    def write_page(self, running: bool) -> None:
        """Make the page of all samples anew; told once where that fails."""
        try:
            self.page.write(running)
        except Exception as error:
            if not self._page_failed:
                log.warning(f"samples: {self.page.folder} gets no page for them ({error}); the images are saved")
            self._page_failed = True

    def places(self) -> list[str]:
        """Where the samples are, and how many could not be drawn, for the end of a run."""
        if not self.drawn and not self.failed:
            return []
        lost = f", {self.failed} failed" if self.failed else ""
        where = self.folder if self._page_failed or not self.drawn else self.folder / "index.html"
        return [f"samples: {where} ({self.drawn} images{lost})"]

    def _draw_one(
        self,
        model: StableDiffusion,
        prompt: SamplePrompt,
        index: int,
        moment: str,
        device: torch.device,
        rewrite: Rewrite | None,
        facts: Mapping[str, Any],
    ) -> Path:
        from library.model.drawing.generate import GenerateSettings, generate

        known = prompt.seed if prompt.seed is not None or self.plan.seed is None else self.plan.seed + index
        seed = known if known is not None else random.SystemRandom().getrandbits(31)
        changed = [text if rewrite is None else rewrite(text, random.Random(seed)) for text in (prompt.prompt, prompt.negative)]
        settings = GenerateSettings(
            prompt=changed[0],
            negative=changed[1],
            width=prompt.width,
            height=prompt.height,
            steps=prompt.steps,
            guidance=prompt.guidance,
            seed=seed,
            sampler=prompt.sampler or self.plan.sampler,
            clip_skip=self.plan.clip_skip,
            start=_start_of(prompt),
        )
        image = (self._generate or generate)(model, settings, device)
        parts = [
            self.plan.output_name,
            moment,
            f"{index:02d}",
            time.strftime("%Y%m%d%H%M%S"),
            None if known is None else str(known),
        ]
        path = self.folder / ("_".join(part for part in parts if part) + ".png")
        used = used_settings(settings.steps, settings.sampler, settings.guidance, seed, (settings.width, settings.height))
        skipped = {"Clip skip": settings.clip_skip} if settings.clip_skip else {}
        told = description(prompt.prompt, prompt.negative, used | skipped)
        write_png(path, image, {PARAMETERS: told, FACTS: json.dumps(dict(facts))})
        return path


def _start_of(prompt: SamplePrompt) -> ImageStart | None:
    if prompt.image is None:
        return None
    from library.training.samples.start_images import inpainting_start

    return inpainting_start(Path(prompt.image), None if prompt.mask is None else Path(prompt.mask), (prompt.width, prompt.height))


def _moment(step: int, epoch: int | None) -> str:
    return f"e{epoch:06d}" if epoch is not None else f"{step:06d}"


@contextlib.contextmanager
def untouched_random_state(device: torch.device | str = "cpu") -> Iterator[None]:
    """Python's, numpy's and torch's global streams (`device`'s too) go on afterwards as if nothing had been drawn inside."""
    import numpy
    import torch

    devices = [device] if torch.device(device).type == "cuda" else []
    python, arrays = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(arrays)


def _give_back_memory(device: torch.device) -> None:
    """On a GPU: what drawing has left in torch's own store, which would otherwise count as the training's."""
    if getattr(device, "type", device) == "cuda":
        import torch

        torch.cuda.empty_cache()
