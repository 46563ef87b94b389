"""How much memory a run will need, worked out from the model's shape and the options before the first step; imports nothing heavy.

Counted are, in bytes:

* **weights**: values × bytes each, of U-Net, text encoder, VAE and what a method adds. Under autocast each trained float32 weight of a
  matrix product has a 16-bit copy besides, kept until the backward pass is done with it. `--prior_from_base` of a whole model adds a
  frozen copy of what is trained; its pass without gradients takes one block's activations more while the others wait.
* **gradients**: one value for each trained one, in its dtype.
* **optimizer**: what the table in `optimizer_table` says for each trained value. With 16-bit weights (`stochastic_rounding`)
  also weights and gradients of the part that is being stepped, in float32.
* **activations**: what autograd keeps of the forward pass, tensor by tensor. With C channels on n = h·w latent pixels:

  - a ResNet block from C₁ to C₂ channels keeps the inputs of norm, SiLU and convolution, twice: 3·C₁·n + 3·C₂·n;
  - a transformer block keeps 31·C·n: input of the group norm, of the projection, of three layer norms and behind them (8), q k v and
    the result of self-attention (4), q and the result of cross-attention (2), GEGLU's 8·C, its gate 4·C and the product 4·C, and the
    input of the projection back. The maps of attention are not kept (torch's and xformers' kernels and ours recompute them).
    Where nothing is trained inside, the inputs of its linear layers are not needed: 9·C·n less;
  - a layer of the text encoder with D channels on T tokens keeps 20·D·T;
  - the convolutions that halve and double a level keep their input, the last norm, SiLU and convolution theirs: 3·C·n;
  - with gradient checkpointing a ResNet block keeps its input, a transformer its four outermost tensors and a text layer its input;
    the largest block is there once in full while it is recomputed.

  Norms and SiLU work in float32 under CUDA's autocast, the rest in 16 bits; without autocast (a frozen U-Net) all work in 16 bits.

The backward pass frees activations while it makes gradients: the peak is the largest sum of the activations that are left and the
gradients that are made, from the last block to the first (deep blocks have few activations and most weights). The VAE encodes before
that; it keeps nothing, its largest layer has four tensors of 128·H·W alive.

On a CPU loading has a peak of its own, which a resident set shows: the file's pages are mapped while the weights are copied. And the
C library keeps freed pieces of many sizes: `HEAP` times the activations were measured (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from library.words import in_words

GIB = 2**30
HEAP = {"cpu": 1.55, "cuda": 1.1}  # memory taken / memory in tensors, for short-lived ones: glibc's heap, torch's cache
PROGRAM = {"cpu": 0.6 * GIB, "cuda": 0.6 * GIB}  # python with torch, diffusers and transformers; CUDA's context and libraries
IMPORTED = 0.47 * GIB  # of the program, when a model is loaded on a CPU
TEXT_LAYER, RESNET, TRANSFORMER, TRANSFORMER_LINEAR, TRANSFORMER_WIDE, CHECKPOINTED = 20, 3, 31, 9, 4, 4
VAE_WIDTH, VAE_ALIVE = 128, 4
TILE = 512  # pixels a side, from which on --vae_tiling cuts
FLOAT32_AT_ONCE = 2**26  # `stochastic_rounding.AT_ONCE`


@dataclass(frozen=True)
class UNetShape:
    """Channels of each level from the outermost in, ResNet blocks a level, and which levels have transformers."""

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
    """All that decides how much memory a run needs. Counts are of values, `…_bytes` bytes for each of them."""

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
    masks_images: bool = False  # for an inpainting model: the VAE encodes a masked image in each draw, also beside cached latents
    checkpointing: bool = False
    linears_trained: bool = True  # weights or a network inside the transformers, not only something before them
    text_trained: bool = True  # gradients flow through the text encoder
    vae_tiling: bool = False
    copied: int = 0  # values of frozen copies of what is trained (--prior_from_base of a whole model)
    copied_bytes: int = 4
    asks_base: bool = False  # the base model predicts in each update, too, without gradients
    unet_autocast: bool = True  # the U-Net runs under autocast; a frozen one in half precision does without

    @property
    def vae_works(self) -> bool:
        """Whether the VAE encodes while training goes on."""
        return self.masks_images or not self.latents_cached

    @property
    def wide_bytes(self) -> int:
        """Of what norms and SiLU keep: CUDA's autocast has them in float32, the CPU's leaves them as they come."""
        return 4 if self.device == "cuda" and self.unet_autocast else self.compute_bytes


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what needs them; `total` is the largest sum that is there at one time."""

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
    """What `case` will need."""
    heap, program = HEAP[case.device], PROGRAM[case.device]
    trained = sum(case.trained.values())
    weights = _weights(case)
    gradients = trained * case.trained_bytes
    optimizer = trained * case.optimizer_bytes
    blocks = list(_blocks(case))
    recomputed = max((whole for _, whole in blocks), default=0.0) if case.checkpointing else 0.0
    kept = [heap * block for block, _ in blocks]
    activations = sum(kept) + heap * recomputed
    made = [case.trained.get(name, 0) * case.trained_bytes for name in _block_names(case)]
    backward = max(sum(kept[: place + 1]) + sum(made[place:]) for place in range(len(kept))) + heap * recomputed
    base = sum(kept) + heap * max((whole for _, whole in blocks), default=0.0) if case.asks_base else 0.0  # while activations wait
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
    """The blocks in the order of the forward pass, as they are named in diffusers' U-Net."""
    levels = len(case.unet.widths)
    yield "text_encoder"
    yield from (f"down_blocks.{level}" for level in range(levels))
    yield "mid_block"
    yield from (f"up_blocks.{level}" for level in range(levels))


def _blocks(case: MemoryCase) -> Iterator[tuple[float, float]]:
    """Of each block: bytes that it keeps, bytes of its largest part in full."""
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


def _kept(case: MemoryCase, parts: Sequence[tuple[int, int, float, bool]], beside: float = 0.0) -> tuple[float, float]:
    """`parts`: channels in and out, pixels, whether a transformer follows; `beside` are bytes that are kept besides."""
    narrow, wide = case.compute_bytes, case.wide_bytes
    total, largest = beside, 0.0
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
    kept = sum(text.layers * layer for text, layer in zip(case.texts, layers, strict=True))
    return kept * (1 if case.checkpointing else TEXT_LAYER), max(layers) * TEXT_LAYER


def _vae(case: MemoryCase) -> float:
    width, height = (min(side, TILE) if case.vae_tiling else side for side in case.size)
    return VAE_ALIVE * VAE_WIDTH * width * height * case.batch * min(case.vae_bytes, case.compute_bytes) * HEAP[case.device]


def _loading(case: MemoryCase) -> float:
    """Parts are loaded one after the other, each with its pages of the file mapped."""
    there, peak = IMPORTED, 0.0
    if case.device != "cpu":
        return 0.0
    for part, in_file in case.file_bytes.items():
        in_model = case.trained.get(part, 0) if part != "unet" else sum(v for k, v in case.trained.items() if "block" in k)
        value = case.trained_bytes if in_model else case.vae_bytes if part == "vae" else max(case.frozen_bytes, case.compute_bytes)
        there += case.counts[part] * value
        peak = max(peak, there + in_file)
    return peak


def line(found: MemoryEstimate, case: MemoryCase) -> str:
    """The estimate for people."""
    parts = {"weights": found.weights, "gradients": found.gradients, "optimizer": found.optimizer}
    sizes = ", ".join(f"{name} {in_words(amount)}" for name, amount in parts.items())
    width, height = case.size
    told = (
        f"memory: about {in_words(found.total)} ({sizes}, activations of a batch of {case.batch} at {width}×{height} "
        f"{in_words(found.activations)}, program {in_words(found.program)})"
    )
    return told + (f"; loading took about {in_words(found.loading)}" if found.loading > found.training else "")
