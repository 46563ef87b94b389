"""`--prior_from_base`: the target is the base model's prediction, runs continue exactly, and draws and losses are reported."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import fine_tune
import train_db
import train_network
import train_textual_inversion
from library.model.load import load
from library.model.text.conditioning import Conditioning
from library.training.base_target import BaseTarget, masks_of
from library.training.step.task import DiffusionTask
from tests.messages import message, refusal
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import losses, stop_after
from tests.scripts.test_processes import data, launched

LORA = {"network_module": "networks.lora", "network_dim": 4}
PRIOR = {"prior_from_base": 0.7, "prior_prompt": ["a cat", "dog"]}
CASES: dict[str, tuple[Callable, dict[str, object]]] = {
    "lora": (train_network.main, {**LORA, "network_dropout": 0.3, "gradient_checkpointing": True}),
    "lora in bf16": (train_network.main, {**LORA, "mixed_precision": "bf16", "gradient_accumulation_steps": 2}),
    "unet alone": (train_network.main, {**LORA, "network_train_unet_only": True, "noise_offset": 0.1, "ip_noise_gamma": 0.1}),
    "text encoder stops": (train_network.main, {**LORA, "stop_text_encoder_training": 2}),
    "with a new word": (train_network.main, {**LORA, "token_string": "my-cat", "init_word": "cat", "embedding_lr": 1e-2}),
    "compiled": (train_network.main, {**LORA, "torch_compile": True, "dynamo_backend": "eager"}),
    "loha in bf16": (
        train_network.main,
        {"network_module": "lycoris.kohya", "network_dim": 4, "network_args": ["algo=loha"], "mixed_precision": "bf16"},
    ),
    "db": (train_db.main, {"save_model_as": "safetensors"}),
    "db in bf16": (train_db.main, {"save_model_as": "safetensors", "mixed_precision": "bf16", "full_bf16": True}),
    "db without padding": (train_db.main, {"save_model_as": "safetensors", "no_token_padding": True, "stop_text_encoder_training": 2}),
    "fine_tune": (fine_tune.main, {"save_model_as": "safetensors", "mixed_precision": "bf16", "min_snr_gamma": 5}),
    "fine_tune with text": (fine_tune.main, {"save_model_as": "safetensors", "train_text_encoder": True}),
}
QUICK = ("lora", "db in bf16")


@pytest.fixture
def common(tiny_v1: Path, photos: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, batch_size=3),
        "output_dir": tmp_path / "out",
        "output_name": "cat",
        "learning_rate": 1e-2,
        "max_train_steps": 4,
        "max_data_loader_n_workers": 0,
        "seed": 3,
        "save_precision": "float",
        **PRIOR,
    }


def with_metadata(folder: Path, photos: Path) -> Path:
    """The data set as fine_tune.py takes it."""
    said = {path.stem: {"caption": "a photo of sks dog"} for path in photos.iterdir() if path.suffix != ".txt"}
    (folder / "meta.json").write_text(json.dumps(said), encoding="utf-8")
    return dataset(folder / "data.toml", photos, batch_size=3, subset=f"metadata_file = '{folder / 'meta.json'}'")


def events(folder: Path, kind: str = "update") -> list[dict]:
    lines = map(json.loads, (folder / "events.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == kind]


@pytest.mark.parametrize("case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def test_the_target_is_what_a_model_loaded_anew_predicts(
    case: str, common: dict[str, object], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, in each update, though weights have moved and dropouts act."""
    main, more = CASES[case]
    if more.get("network_module") == "lycoris.kohya":
        pytest.importorskip("lycoris.kohya", reason="lycoris-lora is not installed")
    met: list[int] = []
    real = BaseTarget.put

    def put(self, target, batch, predict, noisy, t, captions):
        target_put = real(self, target, batch, predict, noisy, t, captions)
        rows = batch.prior.nonzero().flatten()
        others = (~batch.prior).nonzero().flatten()
        assert torch.equal(target_put[others].float(), target[others].float())
        if len(rows):
            with self.method.as_before() as base:
                kinds, autocast = (base.unet.dtype, base.text_encoder.dtype), base.unet_autocast
            fresh = load(common["pretrained_model_name_or_path"])
            fresh.unet.to(kinds[0]), fresh.text_encoder.to(kinds[1])
            fresh.unet_autocast = autocast
            fresh.unet.eval(), fresh.text_encoder.eval()
            with torch.no_grad():
                conditioning = Conditioning.joined([fresh.encode(batch.input_ids[row : row + 1]) for row in rows])
                expected = fresh.predict(noisy[rows], t[rows], conditioning)
            if case == "compiled":  # whose batches are filled up to one size
                torch.testing.assert_close(target_put[rows], expected.float())
            else:
                assert torch.equal(target_put[rows], expected.float())
            assert {batch.captions[row] for row in rows} <= {"a cat", "dog"} or batch.paths[0] == "the rehearsal"
            met.append(len(rows))
        return target_put

    monkeypatch.setattr(BaseTarget, "put", put)
    if main is fine_tune.main:
        common["dataset_config"] = with_metadata(tmp_path, photos)
    assert start(main, **common, **more) == 0
    assert sum(met) >= 3


@pytest.mark.parametrize("case", [name if name in ("lora", "db") else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def test_a_run_stopped_twice_ends_as_one_in_one_go(case: str, common: dict[str, object], photos: Path, tmp_path: Path) -> None:
    main, more = CASES[case]
    if main is fine_tune.main:
        common["dataset_config"] = with_metadata(tmp_path, photos)
    options = {**common, **more, "max_train_steps": 5, "image_ledger": True, "prior_identifier": "of", "prior_prompt": ["dog"]}
    if main is fine_tune.main:
        options["prior_identifier"] = "sks"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with losses() as expected:
        assert start(main, **{**options, "output_dir": whole}) == 0
    options |= {"output_dir": parts, "save_state": True}
    with losses() as losses_of_the_parts:
        for number, step in enumerate(sorted(random.Random(case).sample(range(1, 5), 2))):
            assert stop_after(step, main, **{**options, "max_data_loader_n_workers": number}) == 130
            options["resume"] = parts / f"cat-step{step:08d}-state"
        assert start(main, **options) == 0
    assert losses_of_the_parts == expected
    assert tensors_equal(whole / "cat.safetensors", parts / "cat.safetensors")
    assert (whole / "cat.images.jsonl").read_bytes() == (parts / "cat.images.jsonl").read_bytes()
    figures = [{name: line.get(name) for name in ("step", "loss/prior", "loss/without_prior")} for line in events(whole)]
    assert figures == [{name: line.get(name) for name in figures[0]} for line in events(parts)]
    assert any(line["loss/prior"] is not None for line in figures)


def test_what_is_drawn_and_lost_is_told(common: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**common, **LORA, "loss_type": "l2", "save_every_n_steps": 2}
    assert start(train_network.main, **options, dry_run=True) == 0
    report = capsys.readouterr().out
    message(report, "50% of the draws", "“a cat” or “dog”")
    message(report, "loss × 0.7", "--prior_from_base")
    assert start(train_network.main, **options) == 0
    logged = events(tmp_path / "out")
    for line in logged:  # batches of 3, of which each image counts 0.7 or 1
        shares = [line.get("loss/prior"), line.get("loss/without_prior")]
        assert any(share is not None for share in shares)
        low, high = (
            pick([share * factor for share, factor in zip(shares, (0.7, 1.0), strict=True) if share is not None]) for pick in (min, max)
        )
        assert low - 1e-6 <= line["loss/current"] <= high + 1e-6
    assert any("loss/prior" in line for line in logged) and any("loss/without_prior" in line for line in logged)
    with safe_open(tmp_path / "out" / "cat.safetensors", "pt") as file:
        said = file.metadata()
    assert said["ss_prior_from_base"] == "0.7" and json.loads(said["ss_prior_prompt"]) == ["a cat", "dog"]
    assert (said["ss_prior_identifier"], said["ss_prior_share"]) == ("None", "0.5")


def test_a_network_that_has_learnt_nothing_has_no_loss_in_such_draws(common: dict[str, object], tmp_path: Path) -> None:
    """A new LoRA is the base model: what it predicts is its target, in every draw."""
    assert start(train_network.main, **{**common, **LORA, "prior_share": 1, "max_train_steps": 2}) == 0
    assert [line["loss/current"] for line in events(tmp_path / "out")] == [0, 0]
    assert all("loss/without_prior" not in line for line in events(tmp_path / "out"))


def test_a_frozen_copy_is_as_large_as_the_dry_run_says(
    common: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"save_model_as": "safetensors", "mixed_precision": "bf16"}
    common["max_train_steps"] = 1
    assert start(train_db.main, **common, **more, dry_run=True) == 0
    planned = [line for line in capsys.readouterr().out.splitlines() if "frozen copy" in line]
    copies: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = DiffusionTask.__init__

        def init(self, model, method, *args, **kwargs):
            real(self, model, method, *args, **kwargs)
            with method.as_before() as base:
                copies.append(sum(p.nbytes for part in (base.unet, base.text_encoder) for p in part.parameters()))

        patch.setattr(DiffusionTask, "__init__", init)
        assert start(train_db.main, **common, **more) == 0
    from library.words import in_words

    assert len(planned) == 1 and in_words(copies[0]) in planned[0]


def test_validation_is_as_without(common: dict[str, object], tmp_path: Path) -> None:
    """At update 0 nothing has been trained: the figure does not depend on what will be."""
    figures = []
    for number, prior in enumerate((PRIOR, dict.fromkeys(PRIOR))):
        folder = tmp_path / str(number)
        options = {
            **common,
            **LORA,
            **prior,
            "output_dir": folder,
            "max_train_steps": 1,
            "validation_split": 0.3,
            "validate_every_n_steps": 1,
        }
        assert start(train_network.main, **options) == 0
        figures.append([line["loss/validation"] for line in events(folder, "validation") if line["step"] == 0])
    assert figures[0] == figures[1] and figures[0]


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"prior_prompt": None}, ("OPT-009", "--prior_from_base", "--prior_prompt dog")),
        ({"prior_identifier": "zorb"}, ("CFG-010", "prior_identifier 'zorb'")),
        ({"prior_share": 0}, ("OPT-009", "--prior_from_base", "prior_share")),
        ({"torch_compile": True, "network_module": "lycoris.kohya"}, ("OPT-008", "lycoris.kohya", "--prior_from_base")),
    ],
)
def test_what_would_keep_nothing_is_refused_before_the_model_loads(
    common: dict[str, object],
    more: dict[str, object],
    asked: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("library.options.rules.model_rules.is_module", lambda name: True)
    monkeypatch.setattr("library.training.model_setup.load", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    assert start(train_network.main, **{**common, **LORA, **more}) == 2
    refusal(capsys.readouterr().err, *asked)


def test_textual_inversion_has_no_such_option(common: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Its model does not change, so nothing of the class is lost."""
    assert start(train_textual_inversion.main, **{**common, "token_string": "zorb"}) == 2
    assert "--prior_from_base: unknown option" in capsys.readouterr().err


def test_masks_do_not_hide_what_the_base_model_says() -> None:
    from types import SimpleNamespace

    batch = SimpleNamespace(masks=torch.zeros(2, 1, 2, 2), prior=torch.tensor([False, True]))
    assert masks_of(batch).flatten(1).sum(1).tolist() == [0, 4]
    assert batch.masks.sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("script", [train_network.main, train_db.main], ids=["lora", "db"])
def test_an_inpainting_model_is_told_of_the_same_picture(
    script: Callable, common: dict[str, object], tiny_inpainting: Path, tmp_path: Path
) -> None:
    """A new network is the base model, which knows what the trained one knows: no loss, and so no gradient. A whole model begins so."""
    more = LORA if script is train_network.main else {"save_model_as": "safetensors"}
    common |= {"pretrained_model_name_or_path": tiny_inpainting, "prior_share": 1, "max_train_steps": 1}
    assert start(script, **common, **more, train_inpainting=True) == 0
    assert [line["loss/prior"] for line in events(tmp_path / "out")] == [0]


@pytest.mark.slow
def test_weights_of_timesteps_and_a_v_model_have_the_base_models_v(common: dict[str, object], tiny_v2: Path, tmp_path: Path) -> None:
    common |= {"pretrained_model_name_or_path": tiny_v2, "v2": True, "v_parameterization": True, "max_train_steps": 2, "prior_share": 1}
    more = {"min_snr_gamma": 5, "zero_terminal_snr": True, "scale_v_pred_loss_like_noise_pred": True, "loss_type": "huber"}
    assert start(train_network.main, **common, **LORA, **more) == 0
    assert [line["loss/prior"] for line in events(tmp_path / "out")] == [0, 0]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(common: dict[str, object], photos: Path, tmp_path: Path) -> None:
    """Of some global batches one process has a draw of this kind and the other none, of some one only fills a turn."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    chosen = {
        **common,
        **LORA,
        "prior_prompt": "dog",
        "optimizer_type": "SGD",
        "learning_rate": 1.0,
        "max_train_steps": 6,
        "output_dir": alone,
    }
    assert start(train_network.main, **{**chosen, "dataset_config": data(tmp_path, photos, 4)}) == 0
    chosen |= {"dataset_config": data(tmp_path, photos, 2), "output_dir": together}
    launched("train_network", chosen, tmp_path, ["--num_processes", "2", "--main_process_port", "0"])
    for one, other in zip(events(alone), events(together), strict=True):
        for name in ("loss/current", "loss/prior", "loss/without_prior"):
            assert one.get(name) == (None if other.get(name) is None else pytest.approx(other[name], rel=2e-2)), (one["step"], name)
