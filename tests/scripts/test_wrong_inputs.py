"""Wrong inputs as users meet them: each ends with a clear line that names place and remedy, exit code 2, and nothing written."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from library.console import EXIT_FAULT, run_script
from tests.messages import refusal

ROOT = Path(__file__).parents[2]
MOST_LINES = 3
NAMES = ("--pretrained_model_name_or_path", "model.safetensors", "--output_dir", "out", "--network_module", "networks.lora")
SHORT = ("--max_train_steps", "1", "--network_dim", "2", "--max_data_loader_n_workers", "0")
CONFIG = """
[[datasets]]
resolution = 64
[[datasets.subsets]]
image_dir = 'images/2_shs dog'
class_tokens = 'shs dog'
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1.x checkpoint that all cases share."""
    from tests.small_models import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", "v1")


@pytest.fixture
def work(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with what a good command names; the cases break one thing each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")  # the same errors on a machine with a GPU
    Path("model.safetensors").hardlink_to(model)
    images = Path("images") / "2_shs dog"
    images.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (96, 80), (number * 90, 60, 120)).save(images / f"{number}.png")
    Path("data.toml").write_text(CONFIG, encoding="utf-8")
    Path("prompts.txt").write_text("a dog\n", encoding="utf-8")
    yield tmp_path
    state = sys.modules.get("accelerate.state")
    if state is not None:  # its settings are those of a process, and a user's run is one process
        state.AcceleratorState._reset_state(reset_partial_state=True)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@dataclass(frozen=True)
class Case:
    """One wrong input: its code and what one line about it names, the command line, and what is broken in the working folder."""

    name: str
    asked: tuple[object, ...]
    argv: tuple[str, ...] = ()
    data: tuple[str, ...] = ("--dataset_config", "data.toml")
    spoil: Callable[[], object] = lambda: None
    names: tuple[str, ...] = NAMES


def edit(old: str, new: str) -> Callable[[], object]:
    """A function that changes the dataset config."""
    assert old in CONFIG
    return lambda: Path("data.toml").write_text(CONFIG.replace(old, new), encoding="utf-8")


def write(path: str, content: str | bytes) -> Callable[[], object]:
    """A function that writes a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda: Path(path).write_bytes(data)


def old_form(folder: str, *more: str) -> tuple[str, ...]:
    """The command line without a dataset config."""
    return ("--train_data_dir", folder, "--resolution", "64", *more)


def other_model(path: str) -> tuple[str, ...]:
    """The names of a good command with another model."""
    return ("--pretrained_model_name_or_path", path, *NAMES[2:])


def captions_as_txt() -> None:
    """No class tokens, and captions in .txt files while .caption is read."""
    edit("class_tokens = 'shs dog'", "")()
    for number in range(2):
        Path("images", "2_shs dog", f"{number}.txt").write_text("a dog\n", encoding="utf-8")


def lora_file() -> None:
    """A LoRA under a model's name."""
    import torch
    from safetensors.torch import save_file

    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1, 1), "lora_unet_x.lora_up.weight": torch.zeros(1, 1)}, "lora.safetensors")


def half_a_model() -> None:
    """A model whose download stopped."""
    Path("half.safetensors").write_bytes(Path("model.safetensors").read_bytes()[:200_000])


IMAGES = "images/2_shs dog"
CASES = (
    Case("a mistyped flag", ("OPT-001", "--lerning_rate", "--learning_rate?"), ("--lerning_rate", "1e-4")),
    Case(
        "a mistyped key in --config_file",
        ("CFG-006", "c.toml, key [training] lerning_rate", "learning_rate?"),
        ("--config_file", "c"),
        spoil=write("c.toml", "[training]\nlerning_rate = 1e-4\n"),
    ),
    Case(
        "a value of the wrong type in --config_file",
        ("CFG-008", "c.toml, key max_train_steps", "whole number", "'many'"),
        ("--config_file", "c"),
        spoil=write("c.toml", "max_train_steps = 'many'\n"),
    ),
    Case("a --config_file that does not exist", ("PATH-001", "--config_file nope.toml"), ("--config_file", "nope.toml")),
    Case("nothing at all about the images", ("OPT-007", "--dataset_config or --train_data_dir"), data=()),
    Case("no model named", ("OPT-007", "--pretrained_model_name_or_path"), names=NAMES[2:]),
    Case("a mistyped model path", ("MODEL-001", "modle.safetensors", "model.safetensors?"), names=other_model("modle.safetensors")),
    Case(
        "a dataset config that is not there",
        ("PATH-001", "--dataset_config: dat.toml", "data.toml?"),
        data=("--dataset_config", "dat.toml"),
    ),
    Case("a mistyped image folder", ("PATH-001", "--train_data_dir: imges", "images?"), data=old_form("imges")),
    Case(
        "the image folder instead of its parent",
        ("DATA-003", "--train_data_dir", "folder above it: --train_data_dir images"),
        data=old_form(IMAGES),
    ),
    Case(
        "an empty folder",
        ("DATA-003", "--train_data_dir: 'empty'", "10_shs dog"),
        data=old_form("empty"),
        spoil=lambda: Path("empty").mkdir(),
    ),
    Case(
        "a folder without repeats in its name",
        ("DATA-003", "--train_data_dir", "'dog' to '10_dog'"),
        data=old_form("images"),
        spoil=lambda: Path(IMAGES).rename("images/dog"),
    ),
    Case(
        "a missing image_dir in the config",
        ("PATH-001", "data.toml", "image_dir", "2_shs dog'?"),
        spoil=edit("images/2_shs dog", "images/2_shs dgo"),
    ),
    Case(
        "a mistyped key in the config", ("CFG-006", "data.toml", "clas_tokens", "class_tokens?"), spoil=edit("class_tokens", "clas_tokens")
    ),
    Case(
        "a wrong type in the config", ("CFG-008", "data.toml", "resolution", "large"), spoil=edit("resolution = 64", "resolution = 'large'")
    ),
    Case("a config that is not TOML", ("CFG-002", "data.toml, line 2"), spoil=edit("[[datasets]]", "[[datasets]")),
    Case("a resolution that cannot be divided", ("OPT-017", "66×66", "by 8", "64×64"), spoil=edit("resolution = 64", "resolution = 66")),
    Case("captions with another ending", ("DATA-005", ".caption", 'caption_extension = ".txt"'), spoil=captions_as_txt),
    Case("a broken image", ("DATA-001", "1.png", "remove or replace it"), spoil=write(f"{IMAGES}/1.png", b"\x89PNG\r\n\x1a\nbroken")),
    Case("a caption in another encoding", ("DATA-004", "0.caption", "UTF-8"), spoil=write(f"{IMAGES}/0.caption", "犬".encode("shift_jis"))),
    Case("weights that contradict --v2", ("MODEL-007", "--v2", "model.safetensors", "remove"), ("--v2",)),
    Case("a LoRA in place of the model", ("MODEL-017", "lora.safetensors", "LoRA"), names=other_model("lora.safetensors"), spoil=lora_file),
    Case(
        "a text file in place of the model",
        ("FILE-005", "fake.safetensors"),
        names=other_model("fake.safetensors"),
        spoil=write("fake.safetensors", "hello"),
    ),
    Case("half a model", ("FILE-005", "half.safetensors", "truncated"), names=other_model("half.safetensors"), spoil=half_a_model),
    Case(
        "options that contradict",
        ("OPT-012", "--network_train_unet_only"),
        ("--network_train_unet_only", "--network_train_text_encoder_only"),
    ),
    Case("caching with changing colours", ("DATA-018", "--color_aug", "--cache_latents"), ("--cache_latents", "--color_aug")),
    Case(
        "the same said in the config",
        ("DATA-018", "color_aug", "--cache_latents"),
        ("--cache_latents",),
        spoil=edit("class_tokens", "color_aug = true\nclass_tokens"),
    ),
    Case("an output folder that is a file", ("PATH-003", "--output_dir: prompts.txt"), ("--output_dir", "prompts.txt")),
    Case("samples without prompts", ("OPT-009", "--sample_every_n_steps", "--sample_prompts"), ("--sample_every_n_steps", "1")),
    Case(
        "a mistyped prompts file",
        ("PATH-001", "--sample_prompts: prompt.txt", "prompts.txt?"),
        ("--sample_every_n_steps", "1", "--sample_prompts", "prompt.txt"),
    ),
    Case("an unknown sampler", ("OPT-006", "--sample_sampler", "euler_a?"), ("--sample_sampler", "euler-a")),
    Case("a batch size of nothing", ("OPT-006", "--train_batch_size", 1, "not 0"), ("--train_batch_size", "0")),
    Case("a class of one's own beside a config", ("OPT-008", "--dataset_config", "--dataset_class"), ("--dataset_class", "my.Data")),
    Case("an unknown network module", ("LORA-010", "--network_module", "networks.lroa"), ("--network_module", "networks.lroa")),
    Case("network arguments that are none", ("OPT-010", "--network_args", "key=value", "'conv_dim'"), ("--network_args", "conv_dim")),
    Case("an unknown optimizer", ("OPT-013", "--optimizer_type", "Adamm"), ("--optimizer_type", "Adamm")),
    Case("an unknown scheduler", ("OPT-014", "--lr_scheduler", "cosinee"), ("--lr_scheduler", "cosinee")),
    Case("a network file that is not there", ("PATH-001", "--network_weights: old.safetensors"), ("--network_weights", "old.safetensors")),
    Case("fp16 on the CPU", ("OPT-018", "--mixed_precision", "fp16"), ("--mixed_precision", "fp16")),
    Case(
        "metadata that names no image there is",
        ("DATA-006", "meta.json", "'nope'", "--train_data_dir"),
        data=("--train_data_dir", IMAGES, "--in_json", "meta.json", "--resolution", "64"),
        spoil=write("meta.json", json.dumps({"nope": {"caption": "a dog"}})),
    ),
    Case(
        "metadata that is not JSON",
        ("CFG-002", "meta.json, line 1"),
        data=("--train_data_dir", IMAGES, "--in_json", "meta.json", "--resolution", "64"),
        spoil=write("meta.json", "{'a': 1}"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_wrong_input_is_told_in_a_clear_line_and_nothing_is_written(case: Case, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import train_network

    case.spoil()
    before = tree(work)
    code = run_script(train_network.main, [*case.names, *SHORT, *case.data, *case.argv])
    check_errors(capsys.readouterr().err, case.asked)
    assert code == EXIT_FAULT
    assert tree(work) == before


def check_errors(output: str, asked: tuple[object, ...]) -> None:
    """A few lines that begin with `error:`, one of them with the code and the names; only warnings may precede them."""
    lines = output.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert 1 <= len(errors) <= MOST_LINES, output
    assert lines[-len(errors) :] == errors, output
    assert "Traceback" not in output
    code, *names = asked
    refusal(errors, str(code), *names)
    assert all(len(line) < 600 for line in errors), output


@pytest.mark.parametrize("name", ["a mistyped flag", "a mistyped key in --config_file", "a mistyped image folder"])
def test_wrong_inputs_are_told_by_the_script_itself_without_importing_torch(name: str, work: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    case.spoil()
    before = tree(work)
    argv = [str(ROOT / "train_network.py"), *case.names, *SHORT, *case.data, *case.argv]
    code = (
        "import runpy, sys\n"
        f"sys.argv = {argv!r}\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('exit', end.code, [name for name in ('torch', 'diffusers', 'transformers', 'accelerate') if name in sys.modules])\n"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True, encoding="utf-8", timeout=300)
    print(f"{name}: {time.perf_counter() - begun:.2f} s")
    check_errors(done.stderr, case.asked)
    assert done.stdout.splitlines()[-1] == f"exit {EXIT_FAULT} []"
    assert tree(work) == before


def test_the_script_started_as_users_do_ends_with_the_exit_code_of_a_fault(work: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_network.py"), "--sed", "1"], cwd=work, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == EXIT_FAULT
    check_errors(done.stderr, ("OPT-001", "--sed", "--seed?"))


def test_help_is_answered_by_the_script_itself(work: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "train_network.py"), "--help"], cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and "--network_dim" in done.stdout
