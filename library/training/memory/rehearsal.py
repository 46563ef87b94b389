"""Memory in a run: logs the estimate, tries the largest batch first, and explains running out of memory."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import psutil
import torch

from library.console import log
from library.data.config.blueprint import Size
from library.data.loading.batch import Batch
from library.errors import UserError, coded
from library.method import Method
from library.model.text.tokenizer import ClipTokenizer
from library.training.memory.advice import advice
from library.training.memory.estimate import MemoryCase, estimate, line
from library.training.planning.inputs import Inputs
from library.training.processes import Processes
from library.words import in_words

# in RuntimeErrors: the CPU's allocator raises no specific type
_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
FOR_THE_VAE = "lower --vae_batch_size (1 is the least), or add --vae_slicing and --vae_tiling"


def tell(case: MemoryCase, device: torch.device) -> None:
    """Log the estimate; warn if it exceeds the available memory."""
    needed, room = estimate(case), room_on(device)
    log.info(line(needed, case))
    if needed.total > room:
        log.warning(f"this may not fit: {advice(case, room)}")


def room_on(device: torch.device) -> float:
    """Bytes that this process uses or could use on `device`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device))
    return float(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


@contextlib.contextmanager
def explained(remedy: Callable[[], str], when: str) -> Iterator[None]:
    """Inside, running out of memory becomes a UserError that ends with `remedy()`; other errors pass through."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = coded("TRAIN-005", f"out of memory {when}: {remedy()}")
    else:
        return
    raise UserError(problem)  # outside the handler, whose traceback would keep the tensors alive


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory has run out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def rehearse(
    accelerator: Processes,
    task: torch.nn.Module,
    method: Method,
    inputs: Inputs,
    tokenizer: ClipTokenizer,
    case: MemoryCase,
    step: int,
    restored: bool,
) -> None:
    """Run and discard one forward and backward pass of the largest batch; weights, gradients, optimizer and random streams stay unchanged.

    On a GPU the memory that the optimizer will need is reserved meanwhile, unless the optimizer already uses it (`restored`).
    """
    device = accelerator.device
    on_gpu = device.type == "cuda"
    held = torch.empty(int(estimate(case).optimizer) if on_gpu and not restored else 0, dtype=torch.uint8, device=device)
    kind = (case.latents_cached, case.vae_works)
    try_batch(accelerator, task, blank_batch(inputs, method, tokenizer, case.size, case.batch, *kind), step)
    del held
    peak = f"; {in_words(torch.cuda.max_memory_allocated(device))} at the peak" if on_gpu else ""
    log.info(f"rehearsal: a batch of {case.batch} at {case.size[0]}×{case.size[1]}, the largest, fits{peak}")


def try_batch(accelerator: Processes, task: torch.nn.Module, batch: Batch, step: int) -> None:
    """Run and discard one forward and backward pass as in update `step`; gradients, modes and random streams stay unchanged."""
    device = accelerator.device
    training = task.training
    task.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        loss, _ = task(batch.to(device), step)
        accelerator.backward(loss)
    for parameter in task.parameters():
        parameter.grad = None
    task.train(training)


def blank_batch(inputs: Inputs, method: Method, tokenizer: ClipTokenizer, size: Size, count: int, latents: bool, images: bool) -> Batch:
    """`count` gray images of `size`, zero latents, or both, with a caption of the run, since a method may look for its words."""
    caption = method.rewrite_caption(next(iter(inputs.source.captions()), ""), random.Random(0))
    ids, weights = tokenizer(caption)
    width, height = size
    return Batch(
        images=torch.zeros(count, 3, height, width) if images else None,
        latents=torch.zeros(count, 4, height // 8, width // 8) if latents else None,
        input_ids=ids.expand(count, -1, -1),
        token_weights=None if weights is None else weights.expand(count, -1, -1),
        loss_weights=torch.ones(count),
        seeds=torch.zeros(count, dtype=torch.int64),
        captions=(caption,) * count,
        paths=("the rehearsal",) * count,
        records=(0,) * count,
        prior=None if inputs.data.prior_from_base is None else torch.ones(count, dtype=torch.bool),
    )
