"""Estimates how much memory a run needs, from the model's shape and the options, before the first step; imports nothing heavy.

It counts, in bytes:

* **weights**: values × bytes each, of U-Net, text encoder, VAE and what a method adds. Under autocast each trained float32 weight of a
  matrix product also has a 16-bit copy, which is kept until the backward pass no longer needs it. `--prior_from_base` of a whole model
  adds a frozen copy of what is trained; its pass without gradients takes one block's activations more while the others wait.
* **gradients**: one value per trained value, in its dtype.
* **optimizer**: what the table in `optimizer_table` says per trained value. With 16-bit weights (`stochastic_rounding`) also the weights
  and gradients of the part that is being stepped, in float32.
* **activations**: what autograd keeps of the forward pass, tensor by tensor. With C channels on n = h·w latent pixels:

  - a ResNet block from C₁ to C₂ channels keeps the inputs of norm, SiLU and convolution, twice: 3·C₁·n + 3·C₂·n;
  - a transformer block keeps 31·C·n: the inputs of the group norm, the projection and three layer norms, and the outputs of these three
    (8), q k v and the result of self-attention (4), q and the result of cross-attention (2), GEGLU's 8·C, its gate 4·C and the product
    4·C, and the input of the projection back. The attention maps are not kept (torch's and xformers' kernels and ours recompute them).
    Where nothing inside is trained, the inputs of its linear layers are not needed: 9·C·n less;
  - a layer of the text encoder with D channels on T tokens keeps 20·D·T;
  - the convolutions that halve and double the resolution keep their input; the last norm, SiLU and convolution keep theirs: 3·C·n;
  - with gradient checkpointing a ResNet block keeps its input, a transformer its four outermost tensors and a text layer its input;
    the largest block exists once in full while it is recomputed.

Norms and SiLU compute in float32 under CUDA's autocast, the rest in 16 bits; without autocast (a frozen U-Net) all compute in 16 bits.

The backward pass frees activations while it produces gradients: the peak is the largest sum of the remaining activations and the gradients
so far, from the last block to the first (deep blocks have few activations and most weights). The VAE encodes before that; it keeps nothing,
and its largest layer has four live tensors of 128·H·W.

On a CPU loading has a separate peak of resident memory: the file's pages are mapped while the weights are copied. The C library also keeps
freed pieces of many sizes: `HEAP` times the activations were measured (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from library.words import in_words

GIB = 2**30
HEAP = {"cpu": 1.55, "cuda": 1.1}  # memory taken / memory in short-lived tensors: glibc's heap, torch's cache
PROGRAM = {"cpu": 0.6 * GIB, "cuda": 0.6 * GIB}  # python with torch, diffusers and transformers; CUDA's context and libraries
IMPORTED = 0.47 * GIB  # part of PROGRAM that is in memory when a model is loaded on a CPU
TEXT_LAYER, RESNET, TRANSFORMER, TRANSFORMER_LINEAR, TRANSFORMER_WIDE, CHECKPOINTED = 20, 3, 31, 9, 4, 4
VAE_WIDTH, VAE_ALIVE = 128, 4
TILE = 512  # pixels per side above which --vae_tiling cuts an image
FLOAT32_AT_ONCE = 2**26  # `stochastic_rounding.AT_ONCE`


@dataclass(frozen=True)
class UNetShape:
    """Channels of each level from the outermost in, ResNet blocks per level, and which levels have transformers."""

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    crossed: tuple[bool, ...] = (True, True, True, False)


@dataclass(frozen=True)
class TextShape:
    """Channels and layers of the text encoder, tokens of a caption."""

    width: int = 768
    layers: int = 12
    tokens: int = 77


@dataclass(frozen=True)
class MemoryCase:
    """Everything that determines how much memory a run needs. Counts are numbers of values, `…_bytes` the bytes of each."""

    device: str  # "cpu" or "cuda"
    size: tuple[int, int]  # of the largest bucket, pixels
    batch: int
    unet: UNetShape
    texts: tuple[TextShape, ...]  # of each text encoder
    counts: Mapping[str, int]  # "unet", "text_encoder", "vae", "network": all their values
    trained: Mapping[str, int]  # trained values: "network", "text_encoder", and blocks of the U-Net ("down_blocks.0", …)
    frozen_bytes: float = 4
    trained_bytes: int = 4
    vae_bytes: int = 4
    compute_bytes: int = 4  # of the matrix products' inputs: 2 under autocast
    optimizer_bytes: float = 8
    file_bytes: Mapping[str, int] = field(default_factory=dict)  # on a CPU: of each part in the model's file, in the order of loading
    latents_cached: bool = False
    masks_images: bool = False  # inpainting model: the VAE encodes a masked image at each showing, even with cached latents
    checkpointing: bool = False
    linears_trained: bool = True  # something inside the transformers is trained, not only before them
    text_trained: bool = True  # gradients flow through the text encoder
    vae_tiling: bool = False
    copied: int = 0  # values of frozen copies of what is trained (--prior_from_base of a whole model)
    copied_bytes: int = 4
    asks_base: bool = False  # the base model also predicts in each update, without gradients
    unet_autocast: bool = True  # the U-Net runs under autocast; False for a frozen one in half precision

    @property
    def vae_works(self) -> bool:
        """Whether the VAE encodes during training."""
        return self.masks_images or not self.latents_cached

    @property
    def wide_bytes(self) -> int:
        """Bytes per value of what norms and SiLU keep: float32 under CUDA's autocast, otherwise the compute dtype."""
        return 4 if self.device == "cuda" and self.unet_autocast else self.compute_bytes


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose; `total` is the largest sum at any one time."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    program: float
    training: float
    loading: float

    @property
    def total(self) -> float:
        """The peak of the run."""
        return max(self.training, self.loading)


def estimate(case: MemoryCase) -> MemoryEstimate:
    """The memory that `case` needs."""
    heap, program = HEAP[case.device], PROGRAM[case.device]
    trained = sum(case.trained.values())
    weights = _weights(case)
    gradients = trained * case.trained_bytes
    optimizer = trained * case.optimizer_bytes
    blocks = list(_blocks(case))
    recomputed = max((whole for _, whole in blocks), default=0.0) if case.checkpointing else 0.0
    per_block = [heap * block for block, _ in blocks]
    activations = sum(per_block) + heap * recomputed
    gradients_per_block = [case.trained.get(name, 0) * case.trained_bytes for name in _block_names(case)]
    backward = max(sum(per_block[: place + 1]) + sum(gradients_per_block[place:]) for place in range(len(per_block))) + heap * recomputed
    base = sum(per_block) + heap * max((whole for _, whole in blocks), default=0.0) if case.asks_base else 0.0  # while activations wait
    step = gradients + (min(trained, FLOAT32_AT_ONCE) * 8 if case.trained_bytes == 2 else 0)
    passing = max(backward + case.trained.get("network", 0) * case.trained_bytes, step, base, _vae(case) if case.vae_works else 0.0)
    training = program + weights + optimizer + passing
    return MemoryEstimate(weights, gradients, optimizer, activations, program, training, _loading(case))


def _weights(case: MemoryCase) -> float:
    in_model = sum(count for name, count in case.trained.items() if name != "network")
    frozen = case.counts["unet"] + case.counts["text_encoder"] - in_model
    there = frozen * case.frozen_bytes + (in_model + case.counts.get("network", 0)) * case.trained_bytes
    if case.device == "cpu" or case.vae_works:  # with cached latents the VAE has left the GPU
        there += case.counts["vae"] * case.vae_bytes
    there += case.copied * case.copied_bytes
    if case.compute_bytes < case.trained_bytes:
        there += sum(case.trained.values()) * case.compute_bytes
    return there


def _block_names(case: MemoryCase) -> Iterator[str]:
    """The blocks in the order of the forward pass, with their names in diffusers' U-Net."""
    levels = len(case.unet.widths)
    yield "text_encoder"
    yield from (f"down_blocks.{level}" for level in range(levels))
    yield "mid_block"
    yield from (f"up_blocks.{level}" for level in range(levels))


def _blocks(case: MemoryCase) -> Iterator[tuple[float, float]]:
    """Per block: bytes that it keeps, and bytes of its largest part in full."""
    yield _text_block(case)
    pixels = case.size[0] * case.size[1] / 64 * case.batch
    widths, shape = case.unet.widths, case.unet
    before = widths[0]
    skips = [before]
    for level, width in enumerate(widths):
        there = pixels / 4**level
        parts = []
        for _ in range(shape.layers):
            parts.append((before, width, there, shape.crossed[level]))
            before = width
            skips.append(width)
        deeper = level < len(widths) - 1
        if deeper:
            skips.append(width)
        yield _kept(case, parts, width * there * case.compute_bytes if deeper else 0.0)
    deepest = pixels / 4 ** (len(widths) - 1)
    yield _kept(case, [(before, before, deepest, True), (before, before, deepest, False)])
    for level in reversed(range(len(widths))):
        there = pixels / 4**level
        parts = []
        for _ in range(shape.layers + 1):
            parts.append((before + skips.pop(), widths[level], there, shape.crossed[level]))
            before = widths[level]
        ending = 2 * case.wide_bytes + case.compute_bytes  # of norm, SiLU and convolution at the very end
        yield _kept(case, parts, before * there * (4 * case.compute_bytes if level else ending))


def _kept(case: MemoryCase, parts: Sequence[tuple[int, int, float, bool]], extra: float = 0.0) -> tuple[float, float]:
    """(bytes kept, bytes of the largest part) of `parts`: channels in and out, pixels, transformer or not; `extra` bytes are kept too."""
    narrow, wide = case.compute_bytes, case.wide_bytes
    total, largest = extra, 0.0
    linears = TRANSFORMER_LINEAR if not case.linears_trained else 0
    for channels, out, pixels, crossed in parts:
        resnet = (channels + out) * pixels * ((RESNET - 1) * wide + narrow)
        transformer = out * pixels * (TRANSFORMER_WIDE * wide + (TRANSFORMER - TRANSFORMER_WIDE - linears) * narrow) if crossed else 0.0
        largest = max(largest, resnet, transformer)
        if case.checkpointing:
            resnet, transformer = channels * pixels * narrow, CHECKPOINTED * out * pixels * narrow if crossed else 0.0
        total += resnet + transformer
    return total, largest


def _text_block(case: MemoryCase) -> tuple[float, float]:
    if not case.text_trained:
        return 0.0, 0.0
    layers = [text.width * text.tokens * case.batch * case.compute_bytes for text in case.texts]
    inputs = sum(text.layers * layer for text, layer in zip(case.texts, layers, strict=True))
    return inputs * (1 if case.checkpointing else TEXT_LAYER), max(layers) * TEXT_LAYER


def _vae(case: MemoryCase) -> float:
    width, height = (min(side, TILE) if case.vae_tiling else side for side in case.size)
    return VAE_ALIVE * VAE_WIDTH * width * height * case.batch * min(case.vae_bytes, case.compute_bytes) * HEAP[case.device]


def _loading(case: MemoryCase) -> float:
    """The peak of loading: parts are loaded in turn, each with its pages of the file mapped; 0 on a GPU."""
    there, peak = IMPORTED, 0.0
    if case.device != "cpu":
        return 0.0
    for part, in_file in case.file_bytes.items():
        in_model = case.trained.get(part, 0) if part != "unet" else sum(v for k, v in case.trained.items() if "block" in k)
        value = case.trained_bytes if in_model else case.vae_bytes if part == "vae" else max(case.frozen_bytes, case.compute_bytes)
        there += case.counts[part] * value
        peak = max(peak, there + in_file)
    return peak


def line(needed: MemoryEstimate, case: MemoryCase) -> str:
    """The estimate as a line for the user."""
    parts = {"weights": needed.weights, "gradients": needed.gradients, "optimizer": needed.optimizer}
    sizes = ", ".join(f"{name} {in_words(amount)}" for name, amount in parts.items())
    width, height = case.size
    text = (
        f"memory: about {in_words(needed.total)} ({sizes}, activations of a batch of {case.batch} at {width}×{height} "
        f"{in_words(needed.activations)}, program {in_words(needed.program)})"
    )
    return text + (f"; loading took about {in_words(needed.loading)}" if needed.loading > needed.training else "")
