"""Values: what front-ends and TOML write for one is taken where its meaning is plain; and values in JSON."""

import json
from pathlib import Path

import pytest

from library.options.declare import options_table
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.options.reading.values import as_json
from tests.messages import message, refused

DEFAULTS = options_table(parse(TrainNetwork, []))


def from_file(folder: Path, line: str) -> dict:
    """What differs from the defaults with this line in the file."""
    file = folder / "c.toml"
    file.write_text(line + "\n", encoding="utf-8")
    return changed("--config_file", str(file))


def changed(*argv: str) -> dict:
    values = options_table(parse(TrainNetwork, argv))
    return {name: value for name, value in values.items() if value != DEFAULTS[name] and name != "config_file"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("v2 = 1", {"v2": True}),
        ("v2 = 0", {}),
        ("v2 = 1.0", {"v2": True}),
        ("v2 = 'True'", {"v2": True}),
        ("v2 = '0'", {}),
        ("v2 = ''", {}),
        ("v2 = []", {}),
        ("network_dim = 32.0", {"network_dim": 32}),
        ("network_dim = '32'", {"network_dim": 32}),
        ("network_dim = '32.0'", {"network_dim": 32}),
        ("network_dim = [32]", {"network_dim": 32}),
        ("network_dim = ''", {}),
        ("max_train_steps = 'none'", {}),
        ("max_train_steps = ''", {}),
        ("max_train_steps = 1e3", {"max_train_steps": 1000}),
        ("learning_rate = '1e-4'", {"learning_rate": 1e-4}),
        ("learning_rate = []", {}),
        ("lr_warmup_steps = '0.1'", {"lr_warmup_steps": 0.1}),
        ("lr_warmup_steps = '10%'", {"lr_warmup_steps": 0.1}),
        ("lr_warmup_steps = 10.0", {"lr_warmup_steps": 10}),
        ("text_encoder_lr = [1e-4, 2e-4]", {"text_encoder_lr": 1e-4}),
        ("text_encoder_lr = ['1e-4', '2e-4']", {"text_encoder_lr": 1e-4}),
        ("text_encoder_lr = 1e-4", {"text_encoder_lr": 1e-4}),
        ("text_encoder_lr = []", {}),
        ("network_args = 'conv_dim=4'", {"network_args": ("conv_dim=4",)}),
        ("network_args = ['']", {}),
        ("network_args = ['conv_dim=4', '']", {"network_args": ("conv_dim=4",)}),
        ("base_weights_multiplier = 0.5", {"base_weights_multiplier": (0.5,)}),
        ("base_weights_multiplier = ['1', '0.5']", {"base_weights_multiplier": (1.0, 0.5)}),
        ("output_name = 3", {"output_name": "3"}),
        ("sample_sampler = ''", {}),
        ("lr_scheduler = ''", {}),
        ("optimizer_type = ''", {}),
        ("caption_extension = ''", {"caption_extension": ""}),
        ("save_every_n_epochs = 0", {}),
        ("save_every_n_steps = '0'", {}),
        ("save_last_n_steps_state = 0", {}),
        ("sample_every_n_epochs = 0.0", {}),
        ("save_n_epoch_ratio = 0", {}),
        ("max_train_epochs = 0", {}),
        ("vae_batch_size = 0", {}),
        ("clip_skip = 0", {}),
        ("seed = -1", {}),
        ("seed = -1.0", {}),
        ("max_token_length = 255", {"max_token_length": 225}),
        ("max_token_length = '255'", {"max_token_length": 225}),
        ("max_token_length = 76", {"max_token_length": 150}),
        ("max_token_length = 1", {"max_token_length": 75}),
        ("max_token_length = 0", {}),
        ("bucket_reso_steps = 1", {"bucket_reso_steps": 8}),
        ("cache_text_encoder_outputs = true", {}),
        ("cache_text_encoder_outputs = false", {"cache_text_encoder_outputs": "off"}),
        ("resolution = 512", {"resolution": "512"}),
        ("resolution = [512, 768]", {"resolution": "512,768"}),
    ],
)
def test_a_value_in_the_file_means_what_it_plainly_says(tmp_path: Path, line: str, expected: dict) -> None:
    values = from_file(tmp_path, line)
    assert values == expected and {name: type(value) for name, value in values.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--max_train_epochs 0 --save_every_n_steps=0 --vae_batch_size 0", {}),
        ("--seed -1", {}),
        ("--seed=-1", {}),
        ("--text_encoder_lr 1e-4 2e-4", {"text_encoder_lr": 1e-4}),
        ("--text_encoder_lr=1e-4", {"text_encoder_lr": 1e-4}),
        ("--text_encoder_lr --v2", {"v2": True}),
        ("--max_token_length 255", {"max_token_length": 225}),
        ("--cache_text_encoder_outputs --v2", {"v2": True}),
        ("--cache_text_encoder_outputs off", {"cache_text_encoder_outputs": "off"}),
        ("--lr_warmup_steps 10%", {"lr_warmup_steps": 0.1}),
    ],
)
def test_a_value_on_the_command_line_means_what_it_plainly_says(line: str, expected: dict) -> None:
    assert changed(*line.split()) == expected


def test_what_says_nothing_counts_as_not_given(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("vae = ''\nlr_scheduler = ''\nnetwork_args = []\nlearning_rate = ''\n", encoding="utf-8")
    options = parse(TrainNetwork, ["--config_file", str(file)])
    assert not any(map(options.given, ("vae", "lr_scheduler", "network_args", "learning_rate")))


def test_an_off_on_the_command_line_takes_the_place_of_the_files_value(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("max_train_epochs = 3\nseed = 5\nvae_batch_size = 4\n", encoding="utf-8")
    assert changed("--config_file", str(file), "--max_train_epochs", "0", "--seed", "-1", "--vae_batch_size", "0") == {}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("max_token_length = 255", ("key max_token_length", 255, 225)),
        ("bucket_reso_steps = 1", ("key bucket_reso_steps", 1, 8)),
        ("text_encoder_lr = [1e-4, 5e-5]", ("key text_encoder_lr", 2, 0.0001)),
        ("max_token_length = 150\nsave_every_n_steps = 0\ntext_encoder_lr = [1e-4, 1e-4]", ()),
    ],
)
def test_a_value_that_is_changed_is_warned_of_and_one_that_is_only_written_otherwise_is_not(
    tmp_path: Path, heard, line: str, names: tuple[object, ...]
) -> None:
    from_file(tmp_path, line)
    if names:
        message(heard.lines, *names)
    else:
        assert heard.lines == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, 2.5, "a"), [1, 2.5, "a"]),
        ((("a", 1), ("b",)), [["a", 1], ["b"]]),
        ([Path("a") / "b"], [str(Path("a") / "b")]),
        (Path("a"), "a"),
        (None, None),
        (True, True),
        (complex(1, 2), "(1+2j)"),
    ],
)
def test_a_value_is_written_as_json_has_it(value: object, written: object) -> None:
    assert as_json(value) == written
    assert json.loads(json.dumps(as_json(value))) == written


@pytest.mark.parametrize("argv", [("500,800,1200",), ("500", "800", "1200"), ("500,", "800,1200"), ("500, 800 ,1200",)], ids=" ".join)
def test_steps_may_be_separated_by_commas(argv: tuple[str, ...]) -> None:
    assert changed("--save_at_steps", *argv) == {"save_at_steps": (500, 800, 1200)}


@pytest.mark.parametrize("written", ["[500, 800]", "'500,800'", "['500', '800']"])
def test_in_a_file_too(written: str, tmp_path: Path) -> None:
    assert from_file(tmp_path, f"save_at_steps = {written}") == {"save_at_steps": (500, 800)}


def test_a_text_of_half_a_character_is_refused_and_a_path_is_not() -> None:
    with refused("OPT-006", "--caption_prefix", "valid text", "remove it"):
        parse(TrainNetwork, ["--caption_prefix", "a\udcff"])
    assert changed("--output_dir", "a\udcff")
