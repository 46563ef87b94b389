"""How much room a run's files take, against sums by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from library.method import ExpectedWeights
from library.model.family import V1, PartSizes
from library.model.files.facts import ModelFacts
from library.options.declare import build
from library.options.groups.scripts import TrainDb
from library.training.planning.plan import make_plan
from library.training.saving.disk_need import DiskNeed, Expect, disk_need
from library.words import in_words
from tests.messages import message

FACTS = ModelFacts(Path("folder"), "diffusers", V1, 4, "epsilon", True, (0, 0))


def whole_model(sizes: PartSizes) -> ExpectedWeights:
    """Of a method that trains the U-Net alone."""
    return ExpectedWeights(sizes.unet + sizes.text_encoder + sizes.vae, sizes.unet)


def need(folder: Path, plan: dict | None = None, expect: Expect = whole_model, **values: object) -> DiskNeed:
    planned = make_plan(
        10,
        accumulation=1,
        max_train_steps=100,
        max_train_epochs=None,
        warmup=0,
        **({"save_every_n_epochs": None, "save_n_epoch_ratio": None, "save_every_n_steps": None} | (plan or {})),
    )
    options = build(TrainDb, {"output_dir": str(folder / "not" / "there")} | values, {})
    return disk_need(options, FACTS, planned, SimpleNamespace(records=(), placements=()), expect)


ALL = V1.sizes.unet + V1.sizes.text_encoder + V1.sizes.vae


def test_files_of_a_whole_model(tmp_path: Path) -> None:
    assert need(tmp_path).total == ALL * 4
    assert need(tmp_path, {"save_every_n_epochs": 2}, save_precision="fp16").total == ALL * 2 * 5  # epochs 2 4 6 8 and the end
    needed = need(tmp_path, {"save_every_n_epochs": 1}, save_last_n_epochs=2)  # two, and a third before the first goes
    assert needed.total == ALL * 4 * 3 and needed.lines[0].startswith("files: 3 × 4.0 GiB = 11.9 GiB")
    assert need(tmp_path, {"save_every_n_steps": 10}, save_last_n_steps=20).total == ALL * 4 * 4


@pytest.mark.parametrize(("optimizer", "moments"), [("", 8), ("AdamW8bit", 2.05), ("Lion", 4), ("prodigy", 16), ("AdaFactor", 0.03)])
def test_states_hold_what_is_trained_and_what_the_optimizer_keeps(tmp_path: Path, optimizer: str, moments: float) -> None:
    trained = V1.sizes.unet
    needed = need(tmp_path, save_state=True, optimizer_type=optimizer)
    assert needed.total == ALL * 4 + round(trained * (4 + moments))


def test_what_only_the_network_module_knows_is_named_and_has_no_sum(tmp_path: Path) -> None:
    other = need(tmp_path, expect=lambda sizes: ExpectedWeights(None, None, known_by="lycoris.kohya"), save_state=True)
    assert other.total is None and len(other.lines) == 1
    message(other.lines, "files: 1", "lycoris.kohya")


def test_latents_take_their_room_where_they_are_kept(tmp_path: Path) -> None:
    filled = SimpleNamespace(
        records=[SimpleNamespace(subset=SimpleNamespace(flip_aug=flip)) for flip in (True, False)],
        placements=[SimpleNamespace(bucket=(512, 768))] * 2,
    )
    planned = make_plan(
        1, accumulation=1, max_train_steps=1, max_train_epochs=None, warmup=0,
        save_every_n_epochs=None, save_n_epoch_ratio=None, save_every_n_steps=None,
    )  # fmt: skip
    options = build(TrainDb, {"output_dir": str(tmp_path), "cache_latents": True}, {})
    assert disk_need(options, FACTS, planned, filled, whole_model).lines[-1] == f"latents: {in_words(3 * 8 * 64 * 96 * 4)} of main memory"  # type: ignore[arg-type]


def test_bytes_in_words() -> None:
    assert [in_words(size) for size in (12, 1536, 5 * 2**20, 3 * 2**30)] == ["12 bytes", "1.5 KiB", "5 MiB", "3.0 GiB"]
