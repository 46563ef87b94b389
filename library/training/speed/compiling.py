"""`--torch_compile`: compiles the U-Net only, one graph per image size, before the first update."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from library.console import log
from library.data.config.blueprint import Size
from library.errors import UserError, coded
from library.model.bundle import StableDiffusion
from library.options.bounds import PIXELS_OF_A_LATENT
from library.options.groups.training import TrainingOptions
from library.options.rules.launch_rules import compile_backend
from library.training.memory.rehearsal import blank_batch, try_batch
from library.training.run_context import RunContext, RunStart
from library.training.samples.samples import Samples
from library.words import counted

MANY = 24  # with more image sizes, a warning suggests fewer
MANY_GRAPHS = 8  # with more image sizes, a warning mentions the memory that CUDA graphs use
_SPARE = 16  # graphs for prompts that change during the run, and for samplers with fractional timesteps


@dataclass(frozen=True)
class Compiler:
    """`backend`: its name in torch; `cuda_graphs`: kernels are recorded once and replayed."""

    backend: str
    cuda_graphs: bool = False

    @classmethod
    def chosen(cls, training: TrainingOptions) -> Compiler | None:
        """Build from --torch_compile, or `accelerate launch --dynamo_backend`; None if nothing is to be compiled.

        Raises UserError for a backend that this PyTorch does not have.
        """
        name = compile_backend(training.torch_compile, training.dynamo_backend)
        return None if name is None else cls(_known(name), training.cuda_graphs)


@dataclass(frozen=True)
class CompiledUnet:
    """The U-Net of a run, compiled in place: training, validation and samples call the same module.

    `rows`: maximum batch size per process, by image size in pixels; smaller batches are padded to it, so that they need no graph of another
    shape. Empty if a custom dataset class does not state its sizes in advance.
    """

    rows: Mapping[Size, int]

    @classmethod
    def of(cls, run: RunStart, model: StableDiffusion, samples: Samples | None) -> CompiledUnet | None:
        """Set the U-Net to compile at the first call with each size; None if nothing is to be compiled."""
        compiler = Compiler.chosen(run.options.training)
        if compiler is None:
            return None
        compiled = cls(run.inputs.source.rows() or {})
        compiled._tell(compiler)
        limit = compiled._graphs(run, samples)
        settings = torch._dynamo.config
        settings.recompile_limit = max(settings.recompile_limit, limit)
        settings.accumulated_recompile_limit = max(settings.accumulated_recompile_limit, limit)
        mode = {"mode": "reduce-overhead"} if compiler.cuda_graphs else {}
        model.unet.compile(backend=compiler.backend, dynamic=False, **mode)
        model.unet_replays = compiler.cuda_graphs
        return compiled

    @property
    def latent_rows(self) -> dict[Size, int]:
        """`rows` by latent size (width, height)."""
        return {(width // PIXELS_OF_A_LATENT, height // PIXELS_OF_A_LATENT): count for (width, height), count in self.rows.items()}

    def warm_up(self, run: RunContext) -> None:
        """Compile for all sizes now, with a forward and backward pass of each whose results are discarded; logs the time it took.

        If the text encoder stops training during this run, this covers both phases.
        """
        if not self.rows:
            log.info("--torch_compile: the sizes of --dataset_class are not known in advance; each is compiled on first use")
            return
        log.info("--torch_compile: compiling the U-Net for %s", counted(len(self.rows), "image size"))
        began = time.monotonic()
        for size, rows in sorted(self.rows.items()):
            batch = blank_batch(run.inputs, run.method, run.model.tokenizer, size, rows, True, run.model.inpaints)
            for step in self._steps(run):
                try_batch(run.accelerator, run.task, batch, step)
        log.info("--torch_compile: done in %.0f s", time.monotonic() - began)

    def _steps(self, run: RunStart) -> list[int]:
        """Return one remaining update of each kind: with the text encoder trained, and without."""
        kinds = {run.method.trains_text_encoder(step): step for step in (run.inputs.plan.updates - 1, run.state.step)}
        return sorted(kinds.values())

    def _graphs(self, run: RunStart, samples: Samples | None) -> int:
        """Return the maximum number of graphs: for training, validation and samples."""
        strengths = {dataset.options.network_multiplier for dataset in run.inputs.data.blueprint.datasets}
        training = len(self.rows) * len(self._steps(run)) * len(strengths)
        validation = len(run.inputs.validation.buckets) if run.inputs.validation else 0
        drawn = {(prompt.width, prompt.height, prompt.guidance != 1) for prompt in samples.prompts} if samples is not None else ()
        return training + validation * len(strengths) + len(drawn) + _SPARE

    def _tell(self, compiler: Compiler) -> None:
        if len(self.rows) > MANY:
            log.warning(
                "--torch_compile: each of the %d image sizes is compiled separately, which takes long; for fewer sizes, use a larger "
                "bucket_reso_steps, or a smaller range from min_bucket_reso to max_bucket_reso",
                len(self.rows),
            )
        if compiler.cuda_graphs and len(self.rows) > MANY_GRAPHS:
            log.warning("--cuda_graphs: each of the %d image sizes uses separate memory; use few sizes", len(self.rows))


def check_cuda_graphs(training: TrainingOptions, device: torch.device, processes: int) -> None:
    """Raise UserError if --cuda_graphs cannot be used with this device or number of processes."""
    if not training.cuda_graphs:
        return
    if device.type != "cuda":
        raise UserError(coded("OPT-018", f"--cuda_graphs: needs an NVIDIA GPU, but this run is on {device.type}; remove it"))
    if processes > 1:
        raise UserError(coded("OPT-008", f"--cuda_graphs: works with one process only, but there are {processes}; remove it"))


def _known(name: str) -> str:
    """Return torch's name of the backend; raises UserError if this PyTorch does not have it."""
    known = torch._dynamo.list_backends(exclude_tags=())
    own = {"tensort": "tensorrt"}.get(name, name)
    if own not in known:
        raise UserError(
            coded(
                "OPT-006",
                f"--dynamo_backend {name}: this PyTorch does not have it; use one of {', '.join(sorted(known))}, such as inductor",
            )
        )
    return own
