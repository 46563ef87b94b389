"""Generates sample images during training without affecting it: random state is restored, and failures are only logged."""

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
from library.words import counted

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from library.model.bundle import StableDiffusion
    from library.model.drawing.generate import GenerateSettings
    from library.model.drawing.image_start import ImageStart

    Generate = Callable[[StableDiffusion, GenerateSettings, torch.device], Image]
SAMPLES = "sample"  # folder inside --output_dir
Rewrite = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class SamplePlan:
    """When samples are generated and where they are saved. The prompts come from the file `source`, which is read again when it changes."""

    output_dir: Path
    output_name: str | None = None
    every_n_steps: int | None = None
    every_n_epochs: int | None = None
    sampler: str = "ddim"  # for prompts without a sampler
    clip_skip: int | None = None
    at_first: bool = False
    source: Path | None = None
    seed: int | None = None  # default for the first prompt; the next prompts count up from it. None: random
    inpaints: bool = False  # an inpainting model: prompts may name images and masks


class Samples:
    """Decides when to generate which prompts, and writes the images to `<output_dir>/sample`.

    `drawn` and `failed` count images; `latest` lists the images of the last moment with their prompts. `generate` replaces
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
        """Build from the sampling options; None if no samples are requested. Raises UserError for errors in the prompt file."""
        sampling = options.sampling
        asked = sampling.sample_at_first or sampling.sample_every_n_steps is not None or sampling.sample_every_n_epochs is not None
        if sampling.sample_prompts is None or not asked:
            return None
        source = Path(sampling.sample_prompts)
        prompts, notes = read_prompts(source) if exists(source) else ((), ())  # a missing file is already reported; it may appear later
        for note in notes:
            log.warning(note)
        check_images(prompts, source, options.model.train_inpainting)
        plan = SamplePlan(
            options.saving.folder,
            options.saving.output_name,
            sampling.sample_every_n_steps,
            sampling.sample_every_n_epochs,
            sampling.sample_sampler,
            family_of_flag(options.model.v2).clip_skip(options.model.clip_skip),
            sampling.sample_at_first,
            source,
            sampling.sample_seed,
            options.model.train_inpainting,
        )
        return cls(prompts, plan, generate)

    def due_at_first(self, step: int) -> bool:
        """Return whether to generate before the first update; a resumed run has done so already."""
        return self.plan.at_first and step == 0

    def moment_is_epoch(self) -> bool:
        """Return whether file names contain the epoch."""
        return self.plan.every_n_epochs is not None

    def due(self, step: int, epoch: int, at_epoch_end: bool) -> bool:
        """Return whether to generate after `step` updates and `epoch` whole epochs; if both intervals are set, epochs win."""
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
        """Generate an image for every prompt and return the files that were written; for the main process only.

        `epoch` is set at an epoch's end and then names the files. `rewrite` is what the method does to captions, `session` identifies the
        run in the files, and `there` (`drawn_at`) has the images of this moment that already exist. A prompt that fails is logged and
        counted; random state is restored. Once `stop()` returns True, no new image is started.
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
                except Exception as error:  # out of memory, a full disk, an error in the sampler: none of them may end the training
                    faults.append(first_line(error))
        _give_back_memory(device)
        files = [path for path, _ in self.latest]
        self.drawn += len(files)
        self.failed += len(faults)
        where = ("of " + (f"epoch {epoch}" if epoch is not None else f"update {step}")) if step else "before training"
        if faults:
            log.warning(f"samples {where}: {len(faults)} of {len(self.prompts)} failed ({faults[0]}); training continues")
        if left:
            log.info(f"samples {where}: {left} of {len(self.prompts)} skipped, since the run was asked to stop")
        if files:
            self.write_page(running=True)
            log.info(f"samples {where}: {len(files)} in {time.time() - began:.0f} s, in {self.folder}")
        return files

    def drawn_at(self, step: int, epoch: int | None, session: str) -> dict[int, Path]:
        """Return the images of this run at a moment, by the index of their prompt."""
        samples = [sample for sample in self.page.samples() if sample.moment == _moment(step, epoch)]
        return {sample.index: sample.path for sample in samples if sample.session in (None, session) and sample.index < len(self.prompts)}

    def _read_again(self) -> None:
        """Read the prompt file again if it changed during the run; if it has errors, log them and keep the previous prompts."""
        source = self.plan.source
        if source is None:
            return
        try:
            text = read_bytes(source)
        except OSError:  # removed or unreadable: the prompts in memory stay
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
        log.info(f"--sample_prompts {source}: was changed; {counted(len(self.prompts), 'prompt')} from now on")

    def write_page(self, running: bool) -> None:
        """Rewrite the page of all samples; a failure is logged once."""
        try:
            self.page.write(running)
        except Exception as error:
            if not self._page_failed:
                log.warning(f"samples: {self.page.folder} gets no page for them ({error}); the images are saved")
            self._page_failed = True

    def places(self) -> list[str]:
        """Return where the samples are, and how many failed, for the end of a run."""
        if not self.drawn and not self.failed:
            return []
        lost = f", {self.failed} failed" if self.failed else ""
        where = self.folder if self._page_failed or not self.drawn else self.folder / "index.html"
        return [f"samples: {where} ({counted(self.drawn, 'image')}{lost})"]

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
        parameters = description(prompt.prompt, prompt.negative, used | skipped)
        write_png(path, image, {PARAMETERS: parameters, FACTS: json.dumps(dict(facts))})
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
    """Restore the global random states of Python, numpy and torch (the `device`'s too) on exit."""
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
    """Release what generating left in torch's CUDA cache, which would otherwise count as memory of the training."""
    if getattr(device, "type", device) == "cuda":
        import torch

        torch.cuda.empty_cache()
