"""The command in question: where it begins, what it uses, what of it may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.console import secret_free
from library.doctor.command import places_of, read_command, split_command
from library.doctor.findings import Finding
from library.doctor.folders import Place
from tests.messages import message

LORA = ["train_network.py", "--network_module", "networks.lora", "--pretrained_model_name_or_path", "owner/model"]


@pytest.mark.parametrize(
    ("argv", "own", "words"),
    [
        ([], [], None),
        (["--report"], ["--report"], None),
        (["--report", "--", "train_db.py", "--seed", "1"], ["--report"], ["train_db.py", "--seed", "1"]),
        (["accelerate", "launch", "train_db.py"], [], ["accelerate", "launch", "train_db.py"]),
        (["--report", "train_db.py", "--report"], ["--report"], ["train_db.py", "--report"]),
    ],
)
def test_command_begins_after_the_doctors_own_words(argv: list[str], own: list[str], words: list[str] | None) -> None:
    assert split_command(argv) == (own, words)


def test_all_places_of_a_command_are_listed(tmp_path: Path) -> None:
    config = tmp_path / "cfg.toml"
    config.write_text(
        f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{tmp_path}'\nclass_tokens = 'a'\n[[datasets.subsets]]\nimage_dir = 'b'\n"
        f"class_tokens = 'b'\nconditioning_data_dir = 'masks'\n",
        encoding="utf-8",
    )
    words = [*LORA, "--dataset_config", str(config), "--output_dir", "out", "--logging_dir", "logs", "--spare_dir", "spare"]
    command, asked = read_command([*words, "--cache_latents_to_disk"])
    assert asked.level == "ok", asked
    assert command.options is not None
    places = {(place.option, place.path.name, place.written) for place in places_of(command.options) if isinstance(place, Place)}
    assert places >= {
        ("--dataset_config", "cfg.toml", False),
        ("--output_dir", "out", True),
        ("--logging_dir", "logs", True),
        ("--spare_dir", "spare", True),
        ("image_dir", tmp_path.name, False),
        ("image_dir", "b", False),
        ("caches in image_dir", "b", True),
        ("conditioning_data_dir", "masks", False),
        ("the Hub's cache for --pretrained_model_name_or_path", "hub", True),
    }


def test_tools_are_commands_too(tmp_path: Path) -> None:
    words = ["tools/resize_images_to_resolution.py", str(tmp_path), str(tmp_path / "small")]
    command, asked = read_command(["python", *words])
    assert asked.level == "ok" and command.options is not None
    assert {(place.option, place.written) for place in places_of(command.options) if isinstance(place, Place)} == {
        ("--src_img_folder", False),
        ("--dst_img_folder", True),
    }


def test_model_that_is_a_path_is_looked_for_on_the_disk_and_a_name_on_the_hub(tmp_path: Path) -> None:
    words = ["tools/convert_diffusers20_original_sd.py", "{}", str(tmp_path / "out.safetensors")]
    for model, option in (("gone.safetensors", "--model_to_load"), ("owner/model", "the Hub's cache for --model_to_load")):
        command, _ = read_command([word.format(model) for word in words])
        assert command.options is not None
        first = next(place for place in places_of(command.options) if isinstance(place, Place))
        assert (first.option, first.may_be_missing) == (option, False)


def test_dataset_config_with_a_fault_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "cfg.toml").write_text("[[datasets]\n", encoding="utf-8")
    command, _ = read_command([*LORA, "--dataset_config", str(tmp_path / "cfg.toml"), "--output_dir", "out"])
    assert command.options is not None
    (finding,) = [place for place in places_of(command.options) if isinstance(place, Finding)]
    assert finding.level == "error" and "line 1" in finding.text and finding.remedy == "correct the file"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--output_dir", "out"], ("script",)),
        (["train_lora.py"], ("train_lora.py", "script")),
        ([*LORA, "--seed", "x", "--ouput_dir", "out"], ("--seed:", "'x'")),
        ([*LORA, "--seed", "x", "--ouput_dir", "out"], ("--ouput_dir:", "--output_dir")),
        ([*LORA, "--train_data_dir", "gone", "--output_dir", "out"], ("gone:",)),
    ],
)
def test_what_is_wrong_with_a_command_is_one_finding(words: list[str], names: tuple[str, ...]) -> None:
    command, asked = read_command(words)
    assert asked.level == "error" and command.options is None
    message(asked.text, *names)


def test_help_and_output_config_are_not_acted_upon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_command([*LORA, "--help", "--output_config", "--config_file", str(tmp_path / "new.toml")])
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_report_has_flags_and_neither_values_nor_what_may_be_a_secret() -> None:
    command, asked = read_command([*LORA, "--huggingface_token=hf_lost", "--hf_also_secret", "v", "--wandb_api_key", "k-e-y"])
    assert asked.level == "error"
    assert command.without_values().endswith(
        "--network_module --pretrained_model_name_or_path --huggingface_token --(unknown) --wandb_api_key"
    )
    assert secret_free("hf_lost k-e-y") == "(secret) (secret)"
