"""tools/config_from_run.py: a manifest gives back the exact options of its run, a network's metadata those that it records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from library.options.declare import options_of, options_table
from library.options.groups.scripts import SCRIPTS, TrainNetwork
from library.options.reading.parse import parse
from library.training.saving.manifest import options_with_origins
from tests.messages import message, refusal, refusals
from tests.scripts.running import run_in_process
from tools import config_from_run

ROOT = Path(__file__).parents[2]
ARGV = (
    "--pretrained_model_name_or_path C:\\models\\m.safetensors --dataset_config data.toml --output_dir out --output_name cat "
    "--learning_rate 1e-4 --max_train_epochs 3 --mixed_precision bf16 --cache_latents --resolution 512,768 --clip_skip 2 "
    "--optimizer_type Prodigy --optimizer_args weight_decay=0.1 betas=(0.9,0.99) --seed 5 --metadata_privacy no_paths"
).split()
EXTRA = {"TrainNetwork": ["--network_module", "networks.lora", "--network_args", "conv_dim=4", "a=b=c", "--base_weights_multiplier", "0.5"]}


def manifest(script: type, argv: list[str], path: Path, **facts: object) -> None:
    options = options_with_origins(parse(script, argv))
    path.write_text(json.dumps({"format": 1, "script": script.name, "seed": 99, "options": options} | facts), encoding="utf-8")


def network(path: Path, **metadata: str) -> Path:
    save_file({"a": torch.zeros(1)}, path, {"ss_network_module": "networks.lora"} | metadata)
    return path


def config(source: Path, target: Path, *, code: int = 0) -> Path:
    assert run_in_process(config_from_run.main, source, target) == code
    return target


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_manifest_gives_the_same_options_back(script: type, tmp_path: Path) -> None:
    argv = ARGV + EXTRA.get(script.__name__, [])
    manifest(script, argv, tmp_path / "cat.run.json")
    again = parse(script, ["--config_file", str(config(tmp_path / "cat.run.json", tmp_path / "cat.toml"))])
    assert options_table(again) | {"config_file": None} == options_table(parse(script, argv))


def test_the_manifest_says_where_each_value_came_from_and_keeps_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[training]\nseed = 3\n", encoding="utf-8")
    secrets = ["--huggingface_token", "hf_SECRET", "--wandb_api_key", "SECRET"]
    values = options_with_origins(parse(TrainNetwork, ["--config_file", str(file), "--learning_rate", "1e-3", *secrets]))
    assert values["learning_rate"] == {"value": 1e-3, "from": "command line"}
    assert values["seed"] == {"value": 3, "from": f"config_file {file}, key [training] seed"}
    assert values["network_alpha"] == {"value": 1.0, "from": "default"}
    assert set(values) == {option.field for option in options_of(TrainNetwork) if not option.secret}
    assert "SECRET" not in json.dumps(values)


def test_a_seed_that_was_drawn_is_written_and_a_resume_is_not(tmp_path: Path) -> None:
    argv = [*(part for part in ARGV if part not in ("--seed", "5")), "--resume", "out/cat-state"]
    manifest(TrainNetwork, argv, tmp_path / "cat.run.json")
    again = parse(TrainNetwork, ["--config_file", str(config(tmp_path / "cat.run.json", tmp_path / "cat.toml"))])
    assert (again.training.seed, again.saving.resume) == (99, None)
    remarks = [line for line in (tmp_path / "cat.toml").read_text(encoding="utf-8").splitlines()[:2]]
    assert "--resume out/cat-state" in remarks[0] and "seed = 99" in remarks[1]


def test_a_foreign_networks_metadata_gives_what_it_tells(tmp_path: Path) -> None:
    """Values as sd-scripts 0.6 to 0.8 writes them."""
    source = network(
        tmp_path / "cat.safetensors",
        ss_network_dim="16", ss_network_alpha="8", ss_learning_rate="0.0001", ss_unet_lr="0.0001", ss_text_encoder_lr="None",
        ss_optimizer="bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=[.9,.99])", ss_lr_scheduler="cosine_with_restarts",
        ss_network_args='{"conv_dim": "4", "conv_alpha": "1"}', ss_resolution="(512, 768)", ss_batch_size_per_device="2",
        ss_base_model_version="sd_v2_v", ss_v2="True", ss_clip_skip="None", ss_cache_latents="True", ss_full_fp16="False",
        ss_min_snr_gamma="5.0", ss_seed="42", ss_max_train_steps="1600", ss_mixed_precision="bf16", ss_enable_bucket="True",
        ss_sd_model_name="model.safetensors", ss_new_sd_model_hash="ab" * 32, ss_sd_scripts_commit_hash="(unknown)",
        ss_tag_frequency='{"10_shs dog": {"dog": 3}}', ss_noise_offset="None", ss_training_comment="shs dog",
    )  # fmt: skip
    target = config(source, tmp_path / "cat.toml")
    options = parse(TrainNetwork, ["--config_file", str(target)])
    assert (options.network.network_dim, options.network.network_alpha, options.network.network_module) == (16, 8.0, "networks.lora")
    assert options.network.network_args == ("conv_dim=4", "conv_alpha=1")
    assert (options.network.unet_lr, options.network.text_encoder_lr, options.optimizer.learning_rate) == (1e-4, None, 1e-4)
    assert (options.optimizer.optimizer_type, options.optimizer.optimizer_args) == ("AdamW8bit", ("weight_decay=0.1", "betas=[.9,.99]"))
    assert (options.data.resolution, options.data.train_batch_size, options.data.enable_bucket) == ("512,768", 2, True)
    assert (options.model.v2, options.model.v_parameterization, options.training.seed) == (True, True, 42)
    assert options.saving.training_comment == "shs dog" and options.diffusion.min_snr_gamma == 5.0
    text = target.read_text(encoding="utf-8")
    message(text, "#", "model.safetensors", "ab" * 32, "pretrained_model_name_or_path")


def test_a_run_with_several_datasets_gives_the_first_ones_size(tmp_path: Path) -> None:
    datasets = json.dumps([{"resolution": [768, 768], "batch_size_per_device": 3, "enable_bucket": False}])
    options = config_from_run.read(network(tmp_path / "a.safetensors", ss_datasets=datasets)).values
    assert (options["resolution"], options["train_batch_size"], options["enable_bucket"]) == ("768,768", 3, False)


@pytest.mark.parametrize(
    ("name", "content", "asked"),
    [
        ("a.safetensors", b"short", ("FILE-005", "truncated")),
        ("a.json", b"{", ("CFG-002", "JSON")),
        ("a.json", b"{}", ("TOOL-010", "manifest")),
        ("none.json", None, ("PATH-001",)),
    ],
)
def test_what_is_not_such_a_file_is_told(tmp_path: Path, capsys, name: str, content: bytes | None, asked: tuple[str, ...]) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config(tmp_path / name, tmp_path / "out.toml", code=2)
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")], (*asked, tmp_path / name))
    assert not (tmp_path / "out.toml").exists()


def test_a_network_without_metadata_and_a_target_that_is_there_are_told(tmp_path: Path, capsys) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    config(tmp_path / "bare.safetensors", tmp_path / "out.toml", code=2)
    (tmp_path / "there.toml").write_text("seed = 1\n", encoding="utf-8")
    config(network(tmp_path / "a.safetensors"), tmp_path / "there.toml", code=2)
    errors = capsys.readouterr().err
    refusal(errors, "TOOL-010", tmp_path / "bare.safetensors")
    refusal(errors, "PATH-011", tmp_path / "there.toml")
    assert (tmp_path / "there.toml").read_text(encoding="utf-8") == "seed = 1\n"


def test_it_starts_as_a_script_from_anywhere(tmp_path: Path) -> None:
    manifest(TrainNetwork, ARGV, tmp_path / "cat.run.json")
    command = [sys.executable, str(ROOT / "tools" / "config_from_run.py"), "cat.run.json", "cat"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    message(done.stderr, "python train_network.py --config_file cat.toml")


@pytest.mark.parametrize(
    "broken",
    [
        {"seed": 3},
        {"seed": {}},
        {"seed": {"value": "many"}},
        {"output_name": {"value": "\ud800"}},
        {"network_dim": {"value": 10**19}},
        {"x\ny = 1\n\ud800": {"value": 1}},
        {"save_precision": {"value": ["a", {"b": 1}]}},
    ],
    ids=str,
)
def test_what_a_manifest_says_wrongly_is_a_remark(broken: dict[str, object], tmp_path: Path) -> None:
    source = tmp_path / "cat.run.json"
    source.write_text(json.dumps({"script": "train_network.py", "seed": "x", "options": broken}), encoding="utf-8")
    text = config(source, tmp_path / "cat.toml").read_text(encoding="utf-8")
    assert not options_table(parse(TrainNetwork, ["--config_file", str(tmp_path / "cat.toml")]))["seed"]
    assert text.isprintable() or set(filter(lambda sign: not sign.isprintable(), text)) == {"\n"}
