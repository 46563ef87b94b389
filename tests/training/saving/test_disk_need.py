"""How much room a run's files take, against the networks themselves and sums by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.make_model import SIZES, _parts, original_infos
from library.model.family import FAMILIES, V1
from library.model.files.facts import ModelFacts
from library.options.declare import build
from library.options.groups.scripts import (
    FineTune,
    TrainDb,
    TrainingScript,
    TrainNetwork,
    TrainTextualInversion,
    TrainTextualInversionXti,
)
from library.training.planning.plan import make_plan
from library.training.saving.disk_need import DiskNeed, disk_need, part_sizes
from library.words import in_words


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sizes_of_the_header_are_those_of_the_model_and_of_its_lora(version: str) -> None:
    """Of the full-size models, made without memory for their weights."""
    import torch

    from networks.lora import create_network

    sizes = part_sizes(original_infos(version, SIZES[version, "full"]))
    assert sizes == FAMILIES[version].sizes
    parts = _parts(version, SIZES[version, "full"])
    assert sizes.unet == sum(weight.numel() for weight in parts["unet"].parameters())
    assert sizes.vae == sum(weight.numel() for weight in parts["vae"].parameters())
    with torch.device("meta"):
        network = create_network(1.0, 3, 1, None, parts["text_encoder"], parts["unet"], conv_dim="2", conv_alpha="1")
    counts = {
        part: sum(weight.numel() for name, weight in network.named_parameters() if name.startswith(f"lora_{part}"))
        for part in ("unet", "te")
    }
    assert counts["unet"] == 3 * (sizes.lora_unet + sizes.lora_extended) + 2 * sizes.lora_wide
    assert counts["te"] == 3 * sizes.lora_text_encoder


FACTS = ModelFacts(Path("folder"), "diffusers", V1, 4, "epsilon", True, (0, 0))


def need(script: type[TrainingScript], folder: Path, plan: dict | None = None, **values: object) -> DiskNeed:
    made = make_plan(
        10,
        accumulation=1,
        max_train_steps=100,
        max_train_epochs=None,
        warmup=0,
        **({"save_every_n_epochs": None, "save_n_epoch_ratio": None, "save_every_n_steps": None} | (plan or {})),
    )
    options = build(script, {"output_dir": str(folder / "not" / "there")} | values, {})
    return disk_need(options, FACTS, made, SimpleNamespace(records=(), placements=()))


ALL = V1.sizes.unet + V1.sizes.text_encoder + V1.sizes.vae


def test_files_of_a_whole_model(tmp_path: Path) -> None:
    assert need(TrainDb, tmp_path).total == ALL * 4
    assert need(TrainDb, tmp_path, {"save_every_n_epochs": 2}, save_precision="fp16").total == ALL * 2 * 5  # epochs 2 4 6 8 and the end
    kept = need(TrainDb, tmp_path, {"save_every_n_epochs": 1}, save_last_n_epochs=2)  # two, and a third before the first goes
    assert kept.total == ALL * 4 * 3 and kept.lines[0].startswith("files: 3 × 4.0 GiB = 11.9 GiB")
    assert need(TrainDb, tmp_path, {"save_every_n_steps": 10}, save_last_n_steps=20).total == ALL * 4 * 4


@pytest.mark.parametrize(("optimizer", "moments"), [("", 8), ("AdamW8bit", 2.05), ("Lion", 4), ("prodigy", 16), ("AdaFactor", 0.03)])
def test_states_hold_what_is_trained_and_what_the_optimizer_keeps(tmp_path: Path, optimizer: str, moments: float) -> None:
    trained = V1.sizes.unet
    found = need(FineTune, tmp_path, save_state=True, optimizer_type=optimizer)
    assert found.total == ALL * 4 + round(trained * (4 + moments))


@pytest.mark.parametrize(
    ("script", "values", "text"),
    [
        (FineTune, {}, False),
        (FineTune, {"train_text_encoder": True}, True),
        (TrainDb, {}, True),
        (TrainDb, {"stop_text_encoder_training": 3}, True),
        (TrainDb, {"stop_text_encoder_training": -1}, False),
    ],
)
def test_a_text_encoder_counts_in_states_where_the_script_trains_it(
    script: type[TrainingScript], values: dict, text: bool, tmp_path: Path
) -> None:
    trained = V1.sizes.unet + (V1.sizes.text_encoder if text else 0)
    assert need(script, tmp_path, save_state=True, **values).total == ALL * 4 + round(trained * 12)


@pytest.mark.parametrize(("script", "layers"), [(TrainTextualInversion, 1), (TrainTextualInversionXti, 16)])
def test_a_word_has_its_vectors_once_or_for_each_layer(script: type[TrainingScript], layers: int, tmp_path: Path) -> None:
    assert need(script, tmp_path, token_string="shs", num_vectors_per_token=3).total == 3 * 768 * layers * 4


def test_networks_of_other_modules_have_a_size_that_is_not_known(tmp_path: Path) -> None:
    network = {"network_args": ("conv_dim=2",), "network_train_unet_only": True}
    ours = V1.sizes.lora_unet * 4 + V1.sizes.lora_wide * 2 + V1.sizes.lora_extended * 4
    assert need(TrainNetwork, tmp_path, network_module="networks.lora", **network).total == ours * 4
    other = need(TrainNetwork, tmp_path, network_module="lycoris.kohya", **network)
    assert other.total is None and "only lycoris.kohya knows" in other.lines[0]


def test_latents_take_their_room_where_they_are_kept(tmp_path: Path) -> None:
    filled = SimpleNamespace(
        records=[SimpleNamespace(subset=SimpleNamespace(flip_aug=flip)) for flip in (True, False)],
        placements=[SimpleNamespace(bucket=(512, 768))] * 2,
    )
    made = make_plan(
        1, accumulation=1, max_train_steps=1, max_train_epochs=None, warmup=0,
        save_every_n_epochs=None, save_n_epoch_ratio=None, save_every_n_steps=None,
    )  # fmt: skip
    options = build(FineTune, {"output_dir": str(tmp_path), "cache_latents": True}, {})
    assert disk_need(options, FACTS, made, filled).lines[-1] == f"latents: {in_words(3 * 8 * 64 * 96 * 4)} of main memory"  # type: ignore[arg-type]


def test_bytes_in_words() -> None:
    assert [in_words(size) for size in (12, 1536, 5 * 2**20, 3 * 2**30)] == ["12 bytes", "1.5 KiB", "5 MiB", "3.0 GiB"]
