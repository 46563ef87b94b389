"""The memory estimate against autograd's own count of what is kept, against optimizers' real state, and against measured peaks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from library.training.memory.advice import advice, changes_that_fit
from library.training.memory.estimate import (
    GIB,
    HEAP,
    PROGRAM,
    MemoryCase,
    TextShape,
    UNetShape,
    _block_names,
    _blocks,
    estimate,
    line,
)
from library.training.memory.facts import _block
from library.training.optim.optimizer import make_optimizer
from library.training.optim.optimizer_table import OPTIMIZERS
from tests.messages import message

V1 = {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863}
LORA = 1_594_368  # values of networks.lora at rank 4, text encoder included
IN_FILE = {part: 2 * V1[part] for part in ("text_encoder", "unet", "vae")}


def lora(side: int, **changes: object) -> MemoryCase:
    """A LoRA on SD v1.5 in float32 on a CPU, cached latents, batch 1."""
    case = MemoryCase(
        "cpu", (side, side), 1, UNetShape(), (TextShape(),), {**V1, "network": LORA}, {"network": LORA},
        file_bytes=IN_FILE, latents_cached=True,
    )  # fmt: skip
    return replace(case, **changes)


def half_width(side: int) -> MemoryCase:
    """All weights of a U-Net of half the width and of SD v1.5's text encoder, AdamW, as `lora` otherwise."""
    blocks = {"down_blocks.0": 3_400_640, "down_blocks.1": 9_705_280, "down_blocks.2": 35_999_360, "down_blocks.3": 15_573_760}
    blocks |= {"mid_block": 24_762_240, "up_blocks.0": 40_570_240, "up_blocks.1": 66_087_040, "up_blocks.2": 18_605_760}
    blocks |= {"up_blocks.3": 5_084_964}
    unet = sum(blocks.values())
    counts = {"unet": unet, "text_encoder": V1["text_encoder"], "vae": V1["vae"]}
    in_file = {part: 2 * counts[part] for part in ("text_encoder", "unet", "vae")}
    trained = {**blocks, "text_encoder": V1["text_encoder"]}
    shape = UNetShape((160, 320, 640, 640))
    return MemoryCase("cpu", (side, side), 1, shape, (TextShape(),), counts, trained, file_bytes=in_file, latents_cached=True)


MEASURED = [  # largest resident set in GiB (benchmarks/RESULTS.md, "Memory of whole runs")
    ("LoRA, 256 px", lora(256), 5.73),
    ("LoRA, 512 px", lora(512), 7.31),
    ("LoRA, 512 px, gradient checkpointing", lora(512, checkpointing=True), 5.83),
    ("half width, all weights, 256 px", half_width(256), 6.19),
    ("half width, all weights, 512 px", half_width(512), 6.49),
]


@pytest.fixture(scope="module")
def models(tiny_v1, tiny_v2):
    """The small models, loaded."""
    from library.model.load import load

    return {"v1": load(tiny_v1), "v2": load(tiny_v2, v2=True)}


@pytest.mark.parametrize(("name", "case", "gib"), MEASURED, ids=[row[0] for row in MEASURED])
def test_the_estimate_is_within_15_percent_of_measured_peaks(name, case, gib) -> None:
    assert estimate(case).total / GIB == pytest.approx(gib, rel=0.15)


def kept_by_autograd(model, checkpointing: bool, side: int = 128) -> float:
    """Bytes of tensors other than parameters that a forward pass of the U-Net keeps for the backward pass."""
    unet = copy.deepcopy(model.unet).train()
    own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def recompute(block, *arguments):
        """What a checkpoint keeps are the arguments; inside, its own hooks take the place of ours."""
        for tensor in arguments:
            if torch.is_tensor(tensor):
                pack(tensor)
        return checkpoint(block, *arguments, use_reentrant=False)

    if checkpointing:
        unet.enable_gradient_checkpointing(recompute)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(torch.randn(2, 4, side // 8, side // 8), 500, torch.randn(2, 77, unet.config.cross_attention_dim))
    return float(sum(tensor.untyped_storage().nbytes() for tensor in saved.values()))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_autograd_keeps(version, checkpointing, models) -> None:
    """The count of tensors is exact for what grows with the image; at these widths the captions' keys and values add some."""
    config = models[version].unet.config
    shape = UNetShape(tuple(config.block_out_channels), config.layers_per_block, tuple("Cross" in kind for kind in config.down_block_types))
    case = lora(128, batch=2, unet=shape, text_trained=False, checkpointing=checkpointing)
    measured = kept_by_autograd(models[version], checkpointing, 256) - kept_by_autograd(models[version], checkpointing, 128)
    blocks = [sum(stored for stored, _ in _blocks(replace(case, size=(side, side)))) for side in (256, 128)]
    assert blocks[0] - blocks[1] == pytest.approx(measured, rel=0.06)


def test_blocks_are_named_as_the_model_names_them(models) -> None:
    names = {_block(name, 4) for name, _ in models["v1"].unet.named_parameters()}
    assert names | {"text_encoder"} == set(_block_names(lora(64)))
    assert len(list(_blocks(lora(64)))) == len(list(_block_names(lora(64))))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.name)
def test_what_the_table_says_of_an_optimizers_memory_is_what_it_takes(row) -> None:
    weights = torch.nn.Parameter(torch.ones(256, 512))
    optimizer = make_optimizer(row.name, [{"params": [weights]}], 1.0 if row.kind == "factor" else 1e-3).optimizer
    weights.square().sum().backward()
    optimizer.step()

    def held(value) -> int:
        if torch.is_tensor(value):
            return value.numel() * value.element_size()
        return sum(map(held, value.values())) if isinstance(value, dict) else 0

    measured = sum(held(value) for state in optimizer.state.values() for value in state.values()) / weights.numel()
    assert row.state_bytes == pytest.approx(measured, rel=0.05, abs=0.01)


def test_the_parts_add_up_and_are_told() -> None:
    """By hand: 1,067.8 M float32 values; half a GiB of program; gradients and two float32 of AdamW only for the network."""
    case = lora(512)
    estimated = estimate(case)
    assert estimated.weights == 4 * (sum(V1.values()) + LORA)
    assert (estimated.gradients, estimated.optimizer, estimated.program) == (4 * LORA, 8 * LORA, PROGRAM["cpu"])
    stored = sum(stored for stored, _ in _blocks(case))
    assert estimated.activations == pytest.approx(HEAP["cpu"] * stored)
    text = line(estimated, case)
    message(text, "memory: about 7.4 GiB", "weights 4.0 GiB", "gradients 6.08 MiB", "optimizer 12.2 MiB", "a batch of 1 at 512×512 2.8")
    assert "loading took about 5.7" in line(estimate(lora(256)), lora(256))


def test_half_precision_halves_weights_and_what_matrix_products_keep() -> None:
    whole, half = estimate(lora(512)), estimate(lora(512, compute_bytes=2, frozen_bytes=2, vae_bytes=2))
    assert half.weights == pytest.approx(whole.weights / 2, rel=0.01)
    assert half.activations == pytest.approx(whole.activations / 2)
    on_gpu = lora(512, device="cuda", compute_bytes=2, frozen_bytes=2)
    assert estimate(on_gpu).activations / HEAP["cuda"] > half.activations / HEAP["cpu"]  # norms in float32
    assert estimate(replace(on_gpu, frozen_bytes=1)).weights < 0.55 * estimate(on_gpu).weights


def test_advice_names_the_cheapest_changes_that_fit_in_order() -> None:
    case = lora(512, device="cuda", batch=8, latents_cached=False, file_bytes={})
    assert changes_that_fit(case, 24 * GIB) == ([], estimate(case).total)
    free = ["--cache_latents", "--mixed_precision bf16"]
    changes, then = changes_that_fit(case, 16 * GIB)
    assert changes == free and then == estimate(replace(case, latents_cached=True, compute_bytes=2, frozen_bytes=2, vae_bytes=2)).total
    assert changes_that_fit(case, 8 * GIB)[0] == [*free, "--gradient_checkpointing"]
    smaller = "a batch of 1 with 8 times the --gradient_accumulation_steps"
    changes, then = changes_that_fit(case, 3 * GIB)
    assert changes == [*free, "--gradient_checkpointing", smaller] and then < 3 * GIB
    assert changes_that_fit(case, 2.2 * GIB)[0] == [*free, "--gradient_checkpointing", smaller, "--fp8_base"]
    message(advice(case, 1 * GIB), "not enough")


def test_full_fine_tuning_is_advised_the_optimizer_and_16_bit_weights() -> None:
    case = replace(half_width(512), device="cuda", file_bytes={})
    assert changes_that_fit(case, 5 * GIB)[0] == ["--optimizer_type AdamW8bit"]
    assert changes_that_fit(case, 3.5 * GIB)[0] == ["--optimizer_type AdamW8bit", "--mixed_precision bf16 with --full_bf16"]


def test_what_did_not_fit_is_never_said_to_fit_as_it_is() -> None:
    message(advice(lora(512, device="cuda"), 80 * GIB), "in order: --mixed_precision bf16")
