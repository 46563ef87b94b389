"""What is written may have the name of what was read: on Windows that needs every file to be let go of before (tests/windows_rules.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fine_tune
import train_db
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from finetune import clean_captions_and_tags, merge_captions_to_metadata
from library.console import run_script
from networks import extract_lora_from_models, merge_lora, resize_lora
from tests.messages import refusal
from tests.scripts.running import kept, run_in_process
from tests.scripts.starting import dataset, start
from tests.small_models import write_strong_lora
from tools import convert_diffusers20_original_sd, edit_metadata

WORD = "<shs>"
SCRIPTS = {
    "network": (train_network.main, "network_weights", {"network_module": "networks.lora", "network_dim": 2}),
    "dylora": (train_network.main, "network_weights", {"network_module": "networks.dylora", "network_dim": 2}),
    "weights merged": (train_network.main, "base_weights", {"network_module": "networks.lora", "network_dim": 2}),
    "dreambooth": (train_db.main, "pretrained_model_name_or_path", {}),
    "fine-tuning": (fine_tune.main, "pretrained_model_name_or_path", {}),
    "inversion": (train_textual_inversion.main, "weights", {"token_string": WORD}),
    "XTI": (train_textual_inversion_XTI.main, "weights", {"token_string": WORD}),
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("library.renaming.DELAYS", ())


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_product_takes_the_place_of_the_file_that_it_was_trained_from(
    kind: str, tiny_v1: Path, photos: Path, tmp_path: Path, heard
) -> None:
    main, option, more = SCRIPTS[kind]
    model = shutil.copyfile(tiny_v1, tmp_path / "model.safetensors")
    subset = f"class_tokens = '{WORD} cat'\ncaption_extension = '.none'"
    if kind == "fine-tuning":
        metadata = tmp_path / "meta.json"
        assert run_in_process(merge_captions_to_metadata.main, photos, metadata, "--caption_extension", ".caption", "--full_path") == 0
        subset = f"metadata_file = '{metadata}'"
    out = tmp_path / "out"
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": dataset(tmp_path / "data.toml", photos, subset=subset),
        "output_dir": out,
        "output_name": "cat",
        "max_train_steps": 1,
        "max_data_loader_n_workers": 0,
        "save_model_as": "safetensors",
        "cache_latents_to_disk": True,
        "cache_latents": True,
        **more,
    }
    assert start(main, **common) == 0
    product = out / "cat.safetensors"
    given = [product] if option == "base_weights" else product
    before = product.stat().st_mtime_ns
    assert start(main, **{**common, option: given}) == 0
    assert kept(out) == ["cat.safetensors"] and product.stat().st_mtime_ns > before
    assert not [line for line in heard.warnings if "in use" in line]


def test_tools_write_over_what_they_read(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    model = shutil.copyfile(tiny_v1, tmp_path / "model.safetensors")
    config, lora, metadata = dataset(tmp_path / "data.toml", photos), tmp_path / "cat.safetensors", tmp_path / "meta.json"
    made = start(
        train_network.main,
        pretrained_model_name_or_path=model,
        dataset_config=config,
        output_dir=tmp_path,
        output_name="cat",
        network_module="networks.lora",
        network_dim=2,
        max_train_steps=1,
        max_data_loader_n_workers=0,
    )
    assert made == 0
    for main, *argv in (
        (merge_lora.main, "--sd_model", model, "--models", lora, "--save_to", model),
        (merge_lora.main, "--models", lora, lora, "--ratios", "0.5", "0.5", "--save_to", lora),
        (resize_lora.main, "--model", lora, "--save_to", lora, "--new_rank", "1"),
        (edit_metadata.main, "--model", lora, "--set", "ss_training_comment=고양이"),
        (convert_diffusers20_original_sd.main, model, model, "--fp16"),
        (merge_captions_to_metadata.main, photos, metadata, "--caption_extension", ".caption"),
        (merge_captions_to_metadata.main, photos, metadata, "--caption_extension", ".caption", "--in_json", metadata),
        (clean_captions_and_tags.main, metadata, metadata),
    ):
        written = Path(argv[1 if argv[0] in (model, metadata, photos) else argv.index("--save_to") + 1 if "--save_to" in argv else 1])
        before = written.stat().st_mtime_ns if written.exists() else 0
        assert run_script(main, [str(item) for item in argv]) == 0, main.__module__
        assert written.stat().st_mtime_ns > before, main.__module__


@pytest.mark.parametrize("way", ["extract", "merge"])
def test_a_file_of_one_kind_never_takes_the_place_of_an_input_of_another(
    way: str, tiny_v1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tuned = (shutil.copyfile(tiny_v1, tmp_path / f"{name}.safetensors") for name in ("model", "tuned"))
    target, argv = tuned, ["--model_org", model, "--model_tuned", tuned]
    if way == "merge":
        target = write_strong_lora(tmp_path / "cat.safetensors", model)
        argv = ["--sd_model", model, "--models", target]
    before = target.read_bytes()
    main = extract_lora_from_models.main if way == "extract" else merge_lora.main
    assert run_script(main, [*map(str, argv), "--save_to", str(target)]) == 2
    refusal(capsys.readouterr().err, "PATH-011", "--save_to", "--model_tuned" if way == "extract" else "--models")
    assert target.read_bytes() == before


@pytest.mark.parametrize("kind", ["network", "inversion", "dreambooth"])
def test_only_a_model_takes_the_place_of_the_model(
    kind: str, tiny_v1: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main, _, more = SCRIPTS[kind]
    model = shutil.copyfile(tiny_v1, tmp_path / "model.safetensors")
    before = model.read_bytes()
    code = start(
        main,
        pretrained_model_name_or_path=model,
        dataset_config=dataset(tmp_path / "data.toml", photos, subset=f"class_tokens = '{WORD} cat'"),
        output_dir=tmp_path,
        output_name="model",
        save_model_as="safetensors",
        max_train_steps=1,
        dry_run=True,
        **more,
    )
    assert model.read_bytes() == before and (code == 0) == (kind == "dreambooth")
    assert ("SD-PATH-011" in "".join(capfd.readouterr())) == (code != 0)
