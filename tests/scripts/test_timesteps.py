"""How timesteps are drawn, in whole runs: exact resumption, what each choice trains, and nothing else than before without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import train_network
import train_textual_inversion
from library.training.step.task import DiffusionTask
from tests.messages import message, refusal
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import losses, stop_after

Drawn = list[tuple[tuple[str, ...], tuple[int, ...]]]
LORA = {"network_module": "networks.lora", "network_dim": 2}
LOGIT = {"timestep_sampling": "logit_normal", "timestep_bias": ["mean=0.5,std=0.8"]}
TABLE = {"timestep_sampling": "table", "timestep_bias": ["0:0", "499:0", "500:1"]}


@pytest.fixture
def common(tiny_v1: Path, photos: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, resolution=32),
        "output_name": "cat",
        "max_train_steps": 5,
        "learning_rate": 1e-2,
        "cache_latents": True,
        "max_data_loader_n_workers": 0,
        "gradient_accumulation_steps": 2,
        "seed": 7,
        "save_precision": "float",
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """(images, timesteps) of each batch that is trained."""
    draws: Drawn = []
    real = DiffusionTask.drawn_timesteps

    def note(self: DiffusionTask, batch: Any) -> torch.Tensor:
        timesteps = real(self, batch)
        draws.append((batch.paths, tuple(timesteps.tolist())))
        return timesteps

    monkeypatch.setattr(DiffusionTask, "drawn_timesteps", note)
    return draws


@pytest.mark.parametrize("way", [LOGIT, TABLE], ids=["logit_normal", "table"])
def test_a_run_in_parts_draws_and_ends_as_one_in_one_go(
    way: dict[str, object], common: dict[str, object], drawn: Drawn, tmp_path: Path
) -> None:
    chosen = common | LORA | way | {"stratified_timesteps": True, "min_snr_gamma": 5}
    with losses() as expected:
        assert start(train_network.main, **chosen, output_dir=tmp_path / "whole") == 0
    whole = list(drawn)
    drawn.clear()
    chosen |= {"output_dir": tmp_path / "parts", "save_state": True}
    with losses() as losses_of_the_parts:
        assert stop_after(2, train_network.main, **chosen) == 130
        assert start(train_network.main, **chosen, resume=tmp_path / "parts" / "cat-step00000002-state") == 0
    assert losses_of_the_parts == expected and drawn == whole
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "parts" / "cat.safetensors")


def test_the_images_of_an_update_are_spread_over_the_range(common: dict[str, object], drawn: Drawn, tmp_path: Path) -> None:
    """9 photographs in batches of 2 and one of 1, two of them an update: of four images each has a quarter of the range to itself."""
    assert start(train_network.main, **common | LORA, stratified_timesteps=True, max_train_epochs=3, output_dir=tmp_path / "out") == 0
    batches = [timesteps for _, timesteps in drawn]
    for epoch in range(3):
        of_epoch = batches[5 * epoch : 5 * epoch + 5]
        for first in (0, 2, 4):
            timesteps = sorted(timestep for batch in of_epoch[first : first + 2] for timestep in batch)
            for place, timestep in enumerate(timesteps):
                assert place * 1000 / len(timesteps) - 1 < timestep < (place + 1) * 1000 / len(timesteps)


def test_a_table_trains_what_it_weighs(common: dict[str, object], drawn: Drawn, tmp_path: Path) -> None:
    assert start(train_network.main, **common | LORA | TABLE, max_train_epochs=2, output_dir=tmp_path / "out") == 0
    assert len(drawn) == 10 and all(timestep >= 499 for _, timesteps in drawn for timestep in timesteps)


def test_named_as_it_is_without_it_nothing_changes(common: dict[str, object], drawn: Drawn, tmp_path: Path) -> None:
    chosen = common | {"token_string": "zorb", "init_word": "cat", "use_object_template": True, "save_model_as": "safetensors"}
    assert start(train_textual_inversion.main, **chosen, output_dir=tmp_path / "plain") == 0
    plain = list(drawn)
    drawn.clear()
    assert start(train_textual_inversion.main, **chosen, timestep_sampling="uniform", output_dir=tmp_path / "named") == 0
    assert drawn == plain and tensors_equal(tmp_path / "plain" / "cat.safetensors", tmp_path / "named" / "cat.safetensors")


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"timestep_bias": ["mean=1"]}, ("OPT-006", "--timestep_bias:", "--timestep_sampling logit_normal or table")),
        ({"timestep_sampling": "table"}, ("OPT-006", "--timestep_sampling table", "timestep:weight")),
        (TABLE | {"max_timestep": 400}, ("OPT-006", "--timestep_bias:", "weight 0")),
        ({"timestep_sampling": "beta"}, ("OPT-006", "--timestep_sampling:", "uniform, logit_normal, table", "'beta'")),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    options: dict[str, object], asked: tuple[str, ...], common: dict[str, object], tmp_path: Path, capsys
) -> None:
    assert start(train_network.main, **common | LORA | options, output_dir=tmp_path / "out") == 2
    refusal(capsys.readouterr().err, *asked)


def test_a_word_of_other_models_is_told_and_means_nothing(common: dict[str, object], tmp_path: Path, capsys) -> None:
    start(train_network.main, **common | LORA, timestep_sampling="sigmoid", dry_run=True, output_dir=tmp_path / "out")
    message("".join(capsys.readouterr()), "sigmoid", "uniform is used")
