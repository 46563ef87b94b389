"""For each script: N updates in one go end as the same run stopped twice and resumed, bit for bit, with the same losses and names, and the
same ledger of images."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

import fine_tune
import train_db
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import start
from tests.scripts.stopping import losses, stop_after

UPDATES = 7
SCRIPTS = {
    "lora": (train_network.main, {"network_module": "networks.lora", "network_dim": 2}),
    "lycoris": (train_network.main, {"network_module": "lycoris.kohya", "network_dim": 2, "network_args": ["algo=loha", "dropout=0.2"]}),
    "db": (train_db.main, {"save_model_as": "safetensors"}),
    "fine_tune": (fine_tune.main, {"train_text_encoder": True, "save_model_as": "safetensors"}),
    "ti": (
        train_textual_inversion.main,
        {"token_string": "zorb", "init_word": "cat", "use_object_template": True, "save_model_as": "safetensors"},
    ),
    "xti": (
        train_textual_inversion_XTI.main,
        {"token_string": "zorb", "init_word": "cat", "use_object_template": True, "save_model_as": "safetensors"},
    ),
}
# Each column is a choice of two; in these eight rows every two columns meet in all four ways (Rao's orthogonal array, 2⁷ in 8 rows).
COLUMNS = ("accumulation", "captions", "dropout", "flip", "warm-up", "prodigy", "bf16")
ROWS = [tuple(bool((row >> bit & 1) ^ (row >> more & 1 if more else 0) ^ (row >> last & 1 if last else 0)) for bit, more, last in places)
        for row in range(8) for places in [((0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 2, 0), (1, 2, 0), (0, 1, 2))]]  # fmt: skip


def test_the_rows_are_pairwise_complete() -> None:
    for one in range(len(COLUMNS)):
        for other in range(one):
            assert len({(row[one], row[other]) for row in ROWS}) == 4


def config(folder: Path, photos: Path, chosen: Mapping[str, bool], metadata: bool) -> Path:
    """9 photographs in three buckets of 3 make 6 batches of 2 an epoch."""
    subset = [f"shuffle_caption = {str(chosen['captions']).lower()}", f"flip_aug = {str(chosen['flip']).lower()}"]
    if chosen["dropout"] and not metadata:
        subset.append("caption_dropout_rate = 0.3")
    if metadata:
        entries = {path.stem: {"caption": f"a photo, of, {path.stem}"} for path in photos.iterdir() if path.suffix != ".txt"}
        (folder / "meta.json").write_text(json.dumps(entries), encoding="utf-8")
        subset.append(f"metadata_file = '{folder / 'meta.json'}'")
    buckets = "enable_bucket = true\nmin_bucket_reso = 32\nmax_bucket_reso = 128\nbucket_reso_steps = 16\n"
    path = folder / "data.toml"
    text = f"[[datasets]]\nresolution = 64\nbatch_size = 2\n{buckets}[[datasets.subsets]]\nimage_dir = '{photos}'\n"
    path.write_text(text + "\n".join(subset) + "\n", encoding="utf-8")
    return path


def options(script: str, row: tuple[bool, ...], model: Path, photos: Path, folder: Path) -> dict[str, object]:
    """The options of a script under one row of choices."""
    chosen = dict(zip(COLUMNS, row, strict=True))
    made: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": config(folder, photos, chosen, script == "fine_tune"),
        "output_name": "cat",
        "max_train_steps": UPDATES,
        "learning_rate": 1.0 if chosen["prodigy"] else 1e-3,
        "optimizer_type": "Prodigy" if chosen["prodigy"] else "AdamW",
        "lr_scheduler": "cosine" if chosen["warm-up"] else "constant",
        "lr_warmup_steps": 3 if chosen["warm-up"] else 0,
        "gradient_accumulation_steps": 3 if chosen["accumulation"] else 1,
        "mixed_precision": "bf16" if chosen["bf16"] else "no",
        "cache_latents": chosen["flip"],
        "max_data_loader_n_workers": 0,
        "seed": 7,
        "save_precision": "float",
        "save_every_n_steps": 3,
        "save_every_n_epochs": 1,
        "image_ledger": True,
        **SCRIPTS[script][1],
    }
    if script == "lora" and chosen["dropout"]:
        made["network_dropout"] = 0.3
    return made


def stopped_and_resumed_ends_as_one_in_one_go(
    script: str, row: tuple[bool, ...], model: Path, photos: Path, folder: Path, stops: int
) -> None:
    """The parts that load images load them in other numbers of workers."""
    main, chance = SCRIPTS[script][0], random.Random(f"{script} {row}")
    made = options(script, row, model, photos, folder)
    whole, parts = folder / "whole", folder / "parts"
    with losses() as expected:
        assert start(main, **made, output_dir=whole) == 0
    made |= {"output_dir": parts, "save_state": True}
    steps = sorted(chance.sample(range(1, UPDATES), stops))
    with losses() as found:
        for number, step in enumerate(steps):
            assert stop_after(step, main, **{**made, "max_data_loader_n_workers": number % 2}) == 130
            made["resume"] = parts / f"cat-step{step:08d}-state"
        made = {name: value for name, value in made.items() if name != "seed"}
        assert start(main, **{**made, "max_data_loader_n_workers": 1}) == 0
    for ending in ("jsonl", "html"):
        assert (parts / f"cat.images.{ending}").read_bytes() == (whole / f"cat.images.{ending}").read_bytes()
    assert found == expected and sorted(found) == list(range(1, UPDATES + 1))
    for path in whole.glob("*.safetensors"):
        assert tensors_equal(path, parts / path.name), path.name
    kept = {path.stem for path in whole.glob("*.safetensors")} | {f"cat-step{step:08d}" for step in steps}
    assert names(parts) == sorted(f"{stem}{ending}" for stem in kept for ending in (".safetensors", "-state"))


# One row a script in every run of the tests, so chosen that each choice of each column is met.
QUICK = {"lora": 7, "lycoris": 4, "db": 0, "fine_tune": 5, "ti": 2, "xti": 3}


@pytest.mark.parametrize("script", SCRIPTS)
def test_stopped_and_resumed_ends_as_one_in_one_go(script: str, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    if script == "lycoris":
        pytest.importorskip("lycoris.kohya", reason="lycoris-lora is not installed")
    stopped_and_resumed_ends_as_one_in_one_go(script, ROWS[QUICK[script]], tiny_v1, photos, tmp_path, stops=1)


@pytest.mark.parametrize("script", ["db", pytest.param("lora", marks=pytest.mark.slow)])
def test_channels_side_by_side_in_memory_go_on_exactly(script: str, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    """What the optimizer remembers is in a state as a plain tensor, and has to lie as the weights do again."""
    made = options(script, ROWS[1], tiny_v1, photos, tmp_path) | {"channels_last": True, "optimizer_type": "AdamW", "learning_rate": 1e-3}
    made |= {"max_train_steps": 3, "save_every_n_steps": None, "save_every_n_epochs": None}
    assert start(SCRIPTS[script][0], **made, output_dir=tmp_path / "whole") == 0
    made |= {"output_dir": tmp_path / "parts", "save_state": True}
    assert stop_after(2, SCRIPTS[script][0], **made) == 130
    assert start(SCRIPTS[script][0], **made, resume=tmp_path / "parts" / "cat-step00000002-state") == 0
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "parts" / "cat.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("row", range(len(ROWS)))
@pytest.mark.parametrize("script", SCRIPTS)
def test_all_choices_stopped_twice(script: str, row: int, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    if script == "lycoris":
        pytest.importorskip("lycoris.kohya", reason="lycoris-lora is not installed")
    stopped_and_resumed_ends_as_one_in_one_go(script, ROWS[row], tiny_v1, photos, tmp_path, 2)
