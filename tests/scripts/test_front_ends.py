"""What front-ends of sd-scripts write starts a run here: kohya_ss, lora-scripts, LoRA_Easy and notebooks, each in its own manner."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.scripts.running import run_in_process

SHARED = Path(__file__).parents[3] / "shared" / "front_ends" / "cases.json"
EXPECTED = json.loads(Path(__file__).with_name("front_ends_expected.json").read_text(encoding="utf-8"))
SMALL_MODEL = Path(__file__).parents[2] / "examples" / "small_model" / "small_sd.safetensors"
TRAINING = ("train_network.py", "train_db.py", "fine_tune.py", "train_textual_inversion.py", "train_textual_inversion_XTI.py")


@dataclass(frozen=True)
class Case:
    """A command as a front-end makes it; the files are written into {case}."""

    name: str
    script: str
    argv: str
    config: str = ""
    dataset: str = ""


# what kohya_ss from v24 on writes whatever is trained
KOHYA_SS = """
bucket_no_upscale = true
bucket_reso_steps = 1
caption_dropout_every_n_epochs = 0
caption_dropout_rate = 0
caption_extension = ".txt"
clip_skip = 1
epoch = 1
gradient_accumulation_steps = 1
huber_c = 0.1
huber_scale = 1
huber_schedule = "snr"
keep_tokens = 0
loss_type = "l2"
lr_scheduler = "cosine"
lr_scheduler_args = []
lr_scheduler_num_cycles = 1
lr_warmup_steps = 0.1
max_data_loader_n_workers = 0
max_timestep = 1000
max_train_steps = 2
multires_noise_discount = 0.3
noise_offset_type = "Original"
optimizer_args = []
optimizer_type = "AdamW"
output_dir = "{out}"
output_name = "last"
persistent_data_loader_workers = 0
pretrained_model_name_or_path = "{model}"
prior_loss_weight = 1
resolution = "64,64"
sample_prompts = "{out}/sample/prompt.txt"
sample_sampler = "euler_a"
save_model_as = "safetensors"
train_batch_size = 1
train_data_dir = "{images}"
xformers = true
"""
LORA = 'network_module = "networks.lora"\nnetwork_dim = 8\nnetwork_alpha = 1\ntext_encoder_lr = [0.0001, 0.0001]\nunet_lr = 0.0001\n'
LORA_SCRIPTS = """
model_train_type = "sd-lora"
pretrained_model_name_or_path = "{model}"
v2 = false
train_data_dir = "{images}"
resolution = "64,64"
enable_bucket = true
min_bucket_reso = 64
max_bucket_reso = 1024
output_name = "aki"
output_dir = "{out}"
save_every_n_epochs = 2
max_train_epochs = 1
learning_rate = "1e-4"
unet_lr = "1e-4"
text_encoder_lr = "1e-5"
lr_scheduler = "cosine_with_restarts"
optimizer_type = "AdamW"
network_module = "networks.lora"
network_dim = 4.0
network_args = []
log_with = "tensorboard"
logging_dir = "{out}/logs"
max_token_length = 255
seed = 1337
enable_preview = false
clip_skip = 2
ddp_gradient_as_bucket_view = false
"""
LORA_EASY = """
mixed_precision = "no"
seed = 23
max_train_epochs = 1
max_token_length = 225
pretrained_model_name_or_path = "{model}"
network_dim = 8
network_alpha = 4.0
network_module = "networks.lora"
optimizer_args = ['weight_decay=0.1']
tag_occurrence = true
save_toml = true
sdxl = false
output_dir = "{out}"
"""
SETS = """
[general]
resolution = 64
batch_size = 1
[[datasets]]
[[datasets.subsets]]
num_repeats = 1
caption_extension = ".txt"
image_dir = "{images}/2_shs dog"
class_tokens = "dog"
"""
FILE = "--config_file={case}/config.toml"
BOTH = f"{FILE} --dataset_config={{case}}/dataset.toml"
ONE_LINE = (
    "--pretrained_model_name_or_path={model} --train_data_dir={images} --resolution=64 --output_dir={out} --network_module=networks.lora "
)
CASES = (
    Case("kohya_ss LoRA", "train_network.py", FILE, KOHYA_SS + LORA),
    Case("kohya_ss DreamBooth", "train_db.py", FILE, KOHYA_SS + "learning_rate_te = 1e-5\nlearning_rate_te1 = 1e-5\n"),
    Case("kohya_ss Textual Inversion", "train_textual_inversion.py", FILE, KOHYA_SS + 'token_string = "shs"\ninit_word = "dog"\n'),
    Case("kohya_ss command line", "train_network.py", ONE_LINE + "--max_train_epochs=0 --noise_offset=0.0 --seed=-1"),
    Case("lora-scripts GUI", "train_network.py", FILE, LORA_SCRIPTS),
    Case("lora-scripts older file", "train_network.py", FILE, LORA_SCRIPTS + "[optimizer_arguments]\nlr_restart_cycles = 1\n"),
    Case("LoRA_Easy LoRA", "train_network.py", BOTH, LORA_EASY, SETS),
    Case("LoRA_Easy Textual Inversion", "train_textual_inversion.py", BOTH, LORA_EASY + 'token_string = "shs"\n', SETS),
    Case("a notebook without captions", "train_network.py", BOTH, LORA_EASY, SETS.replace(".txt", "")),
    Case("accelerations", "train_network.py", ONE_LINE + "--highvram --fused_backward_pass --fp8_base_unet --deepspeed --zero_stage 2"),
    Case("attention and noise", "train_network.py", ONE_LINE + "--xformers --mem_eff_attn --noise_offset 0.1 --multires_noise_iter 6"),
    Case("abbreviated", "train_network.py", ONE_LINE + "--debiased_estimation --min_snr=0 --max_token 255 --text_encoder_lr 1e-4 1e-4"),
    Case("settings left empty", "train_network.py", FILE, KOHYA_SS + LORA + 'vae = ""\nreg_data_dir = ""\nunet_lr2 = []\n'),
)  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths that {placeholders} stand for."""
    root = tmp_path_factory.mktemp("front_ends")
    for folder, count in (("img/2_shs dog", 4), ("reg/1_dog", 4), ("flat", 4)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            image = root / folder / f"{number}.png"
            Image.effect_noise((96, 80 + 16 * number), 60 + number).convert("RGB").save(image)
            for ending in (".txt", ".caption"):
                image.with_suffix(ending).write_text("shs dog, mychar, a photo", encoding="utf-8")
    entries = {f"{(root / 'flat').as_posix()}/{n}.png": {"caption": "shs dog", "train_resolution": [64, 64]} for n in range(4)}
    (root / "meta_lat.json").write_text(json.dumps(entries), encoding="utf-8")
    names = {"images": "img", "reg": "reg", "flat": "flat", "data": ".", "out": "out", "case": "case"}
    return {"model": SMALL_MODEL.as_posix(), **{name: (root / path).as_posix() for name, path in names.items()}}


@pytest.fixture
def dry_run(
    places: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, list[str], dict[str, str]], str | None]:
    """What is said against a command and its files; None where a dry run finds nothing."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)  # front-ends ask for fp16, and for no CPU

    def filled(text: str) -> str:
        text = re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), text)
        return re.sub(r"(?<![\w.}/])/meta_lat\.json", f"{places['data']}/meta_lat.json", text)

    def said(script: str, argv: list[str], files: dict[str, str]) -> str | None:
        folder = Path(places["case"])
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(filled(text), encoding="utf-8")
        main = importlib.import_module(script.removesuffix(".py")).main
        code = run_in_process(main, *(filled(argument) for argument in argv), "--dry_run")
        shown = capsys.readouterr()
        return None if code == 0 else shown.out + shown.err

    return said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_front_end_writes_passes_a_dry_run(case: Case, dry_run) -> None:
    assert dry_run(case.script, case.argv.split(), {"config.toml": case.config, "dataset.toml": case.dataset}) is None


def test_every_stored_command_of_a_front_end_is_taken_or_refused_for_its_reason(dry_run) -> None:
    if not SHARED.is_file():
        pytest.skip("the stored commands are not beside this checkout")
    cases = [case for case in json.loads(SHARED.read_text(encoding="utf-8")) if case["script"] in TRAINING]
    wrong = {}
    for case in cases:
        said, refusal = dry_run(case["script"], case["argv"], case["files"]), EXPECTED.get(case["case"])
        if (refusal["says"] not in (said or "")) if refusal else said is not None:
            wrong[case["case"]] = said
    assert not wrong and len(cases) > 100


def test_every_expected_refusal_has_its_reason() -> None:
    assert all(refusal["says"] and refusal["because"] for refusal in EXPECTED.values())
