"""Engines of accelerate's that no run was saved and resumed with are refused, in one line that says how to start instead."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from library.options.declare import build
from library.options.groups.scripts import TrainDb, TrainNetwork
from library.options.rules import launch_rules
from library.options.rules.launch_rules import ENGINES, attending, compiling, launch
from library.options.rules.option_view import OptionView
from tests.messages import refusal, refusals

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _as_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "USE_TORCH_XLA"))]:
        monkeypatch.delenv(name)


def told() -> list[str]:
    return [problem.line for problem in launch(OptionView(build(TrainNetwork, {}, {})))]


def test_plain_processes_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told() == []
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_USE_SAGEMAKER", "true")
    assert told() == []


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("value", ["true", "1"])
def test_each_engine_is_refused_by_name(engine: launch_rules._Engine, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.variable, value)
    (line,) = told()
    assert line.startswith(f"{engine.variable}={value}: ") and engine.name in line and "--multi_gpu" in line
    assert line.endswith("[SD-OPT-019]")


@pytest.mark.parametrize("flags", [["--use_fsdp"], ["--use_fsdp", "--fsdp_version", "2"], ["--use_megatron_lm"]])
def test_what_the_launcher_sets_is_what_is_looked_at(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of accelerate itself, so that another name in its next version shows here."""
    arguments = launch_command_parser().parse_args([*flags, "--num_processes", "2", "train_network.py"])
    arguments.mixed_precision, arguments.num_machines, arguments.num_cpu_threads_per_process = "no", 1, 1
    arguments.main_process_port, arguments.main_process_ip, arguments.dynamo_backend = 29500, None, "no"
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    (line,) = told()
    assert flags[0] in line


def test_deepspeed_of_the_launcher_too(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = launch_command_parser().parse_args(["--use_deepspeed", "--num_processes", "2", "train_network.py"])
    arguments.mixed_precision, arguments.num_machines, arguments.num_cpu_threads_per_process = "no", 1, 1
    arguments.main_process_port, arguments.main_process_ip, arguments.deepspeed_fields_from_accelerate_config = 29500, None, ""
    _, environment = prepare_deepspeed_cmd_env(arguments)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", environment["ACCELERATE_USE_DEEPSPEED"])
    assert "DeepSpeed" in told()[0]


def test_sagemakers_engines_and_xla_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_SAGEMAKER", "true")
    monkeypatch.setenv("ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE", "DATA_PARALLEL")
    monkeypatch.setattr(launch_rules, "find_spec", lambda name: ModuleSpec(name, None))
    sagemaker, xla = told()
    refusals([sagemaker, xla], ("OPT-019", "DATA_PARALLEL"), ("OPT-019", "torch_xla", "USE_TORCH_XLA=0"))
    monkeypatch.setenv("USE_TORCH_XLA", "0")
    assert told() == [sagemaker]


def test_a_run_with_such_a_config_file_ends_before_anything_is_loaded(tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 1\nnum_machines: 1\nmachine_rank: 0\n"
        "mixed_precision: 'no'\nuse_cpu: false\nfsdp_config:\n  fsdp_version: 2\n",
        encoding="utf-8",
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0"]
    options = ["--pretrained_model_name_or_path", str(tmp_path / "model.safetensors"), "--output_dir", str(tmp_path / "out")]
    options += ["--network_module", "networks.lora", "--train_data_dir", str(tmp_path)]
    done = subprocess.run(
        [*launcher, str(ROOT / "train_network.py"), *options], capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ}
    )
    assert done.returncode != 0
    refusal(done.stderr, "OPT-019", "ACCELERATE_USE_FSDP=true")
    assert not (tmp_path / "out").exists()


COMPILED = {"torch_compile": True}
REFUSED: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"cuda_graphs": True}, ("OPT-009", "--cuda_graphs:", "--torch_compile")),
    ({**COMPILED, "cuda_graphs": True, "dynamo_backend": "eager"}, ("OPT-008", "--cuda_graphs:", "--dynamo_backend inductor", "eager")),
    ({**COMPILED, "cuda_graphs": True, "gradient_accumulation_steps": 2}, ("OPT-008", "--cuda_graphs:", "--gradient_accumulation_steps")),
    ({**COMPILED, "network_module": "networks.dylora"}, ("OPT-008", "--torch_compile:", "networks.dylora")),
    (
        {**COMPILED, "network_module": "networks.lora", "network_args": ("module_dropout=0.1",)},
        ("OPT-008", "--torch_compile:", "module_dropout"),
    ),
    ({"sdpa_backend": "flash", "xformers": True}, ("OPT-008", "--sdpa_backend:", "--xformers")),
]


@pytest.mark.parametrize(("values", "asked"), REFUSED, ids=[" ".join(asked[1:]) for _, asked in REFUSED])
def test_what_cannot_be_compiled_once_for_all_updates_is_refused(values: dict[str, object], asked: tuple[str, ...]) -> None:
    options = OptionView(build(TrainNetwork, values, {}))
    refusals([*compiling(options), *attending(options)], asked)


def test_a_launcher_that_compiles_is_asked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    dylora = OptionView(build(TrainNetwork, {"network_module": "networks.dylora"}, {}))
    assert not list(compiling(dylora))
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    refusals(compiling(dylora), ("OPT-008", "ACCELERATE_DYNAMO_BACKEND:", "networks.dylora"))
    lora = {"network_module": "networks.lora", "network_args": ("module_dropout=0",)}
    assert not list(compiling(OptionView(build(TrainNetwork, lora, {}))))


def test_a_backend_that_compiles_nothing_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")  # the command's own word counts
    nothing = {**COMPILED, "dynamo_backend": "no", "network_module": "networks.dylora"}
    assert not list(compiling(OptionView(build(TrainNetwork, nothing, {}))))


def test_captions_without_padding_are_not_compiled() -> None:
    options = OptionView(build(TrainDb, {**COMPILED, "no_token_padding": True}, {}))
    refusals(compiling(options), ("OPT-008", "--torch_compile:", "--no_token_padding"))


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"WORLD_SIZE": "abc"}, "OPT-006"),
        ({"LOCAL_RANK": ""}, "OPT-006"),
        ({"WORLD_SIZE": "2"}, "OPT-009"),  # the plan would count two processes, and one would train
        ({"WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "5"}, "OPT-006"),
    ],
)
def test_numbers_of_processes_that_cannot_be_are_refused(variables: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refusal(list(launch_rules._process_numbers()), code, next(iter(variables)))


def test_numbers_of_processes_of_the_launcher_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert not list(launch_rules._process_numbers())
