"""A name without an option is a typo, another script's, a front-end's or unknown; a typo is an error and the others one warning."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from library.errors import Problem, UserError
from library.options.declare import options_of
from library.options.groups.scripts import SCRIPTS, FineTune, TrainDb, TrainNetwork, TrainTextualInversion
from library.options.reading.foreign_keys import FOREIGN, HERE
from library.options.reading.parse import parse
from library.options.reading.unknown_option import judge
from library.options.suggest import edits
from tests.messages import message, refusals

SPECIFICATION = Path(__file__).parents[4] / "shared" / "spec" / "options-v0.10.1.json"
OPTIONS = [option.field for option in options_of(TrainNetwork) if option.field not in ("config_file", "output_config")]


def read(folder: Path, text: str, spec: type = TrainNetwork) -> None:
    file = folder / "c.toml"
    file.write_text(text, encoding="utf-8")
    parse(spec, ["--config_file", str(file)])


def problems(folder: Path, text: str, spec: type = TrainNetwork) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        read(folder, text, spec)
    return error.value.problems


def slips(names: list[str], count: int) -> Iterator[tuple[str, str]]:
    """(mistyped, intended): a letter left out, doubled, or exchanged with its neighbour, drawn at random."""
    draw = random.Random(15)
    while count:
        intended = draw.choice(names)
        at = draw.randrange(len(intended) - 1)
        swapped = intended[:at] + intended[at + 1] + intended[at] + intended[at + 2 :]
        mistyped = draw.choice([intended[:at] + intended[at + 1 :], intended[: at + 1] + intended[at:], swapped])
        if mistyped and mistyped not in names:
            count -= 1
            yield mistyped, intended


def test_one_letter_typos_of_options_are_errors_with_the_right_suggestion_and_none_is_taken(tmp_path: Path, heard) -> None:
    pairs = list(slips(OPTIONS, 300))
    file = tmp_path / "c.toml"
    right = 0
    for mistyped, intended in pairs:
        file.write_text(f'"{mistyped}" = 1\n', encoding="utf-8")
        heard.records.clear()
        try:
            parse(TrainNetwork, ["--config_file", str(file)])
        except UserError as error:
            (line,) = error.lines
            right += f"key {mistyped}:" in line and f" {intended}?" in line and line.endswith("[SD-CFG-006]")
        else:
            assert mistyped in heard.text, f"{mistyped} (for {intended}) is accepted silently"
    assert right >= 290, right


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("lerning_rate", "learning_rate"),
        ("netwrok_dim", "network_dim"),
        ("mixed_precison", "mixed_precision"),
        ("Learning-Rate", "learning_rate"),
        ("maxTrainEpochs", "max_train_epochs"),
        ("caption_extenion", "caption_extension"),
        ("gradient_acumulation_step", "gradient_accumulation_steps"),
        ("vae_", "vae"),
    ],
)
def test_a_key_near_to_an_option_is_a_typo(tmp_path: Path, key: str, option: str) -> None:
    refusals(problems(tmp_path, f'[any.section]\n"{key}" = 1\n'), ("CFG-006", f"key [any.section] {key}:", f"{option}?"))


def test_a_key_near_to_another_scripts_option_is_a_typo_too(tmp_path: Path) -> None:
    refusals(
        problems(tmp_path, "netwrok_dim = 4\n", TrainTextualInversion), ("CFG-006", "key netwrok_dim:", "train_network.py", "network_dim?")
    )


def test_all_keys_without_effect_of_a_file_are_told_in_one_warning(tmp_path: Path, heard) -> None:
    text = "epoch = 1\n[gui]\nsdxl = false\nnoise_offset_type = 'Original'\nlearning_rate_te1 = 1e-5\n[new]\nmy_key = 1\nmax_epochs = ''\n"
    read(tmp_path, text + "num_repeats = 1\nconv_dim = 4\nlearning_rate_te = 1e-5\n")
    (warning,) = [line for line in heard.lines if "c.toml" in line]
    for names in (
        ("9 keys",),
        ("epoch (here max_train_epochs), noise_offset_type – of kohya_ss",),
        ("sdxl, learning_rate_te1 – of SDXL",),
        ("my_key, max_epochs (", "max_train_epochs", ") – unknown"),
        ("num_repeats", "--dataset_config"),
        ("conv_dim – of network_args", 'network_args = ["conv_dim=4"]'),
        ("learning_rate_te – of train_db.py and fine_tune.py",),
    ):
        message([warning], *names)


def test_a_file_of_options_only_is_not_warned_of(tmp_path: Path, heard) -> None:
    read(tmp_path, "seed = 1\n[a]\nv2 = true\n")
    assert heard.text == ""


@pytest.mark.parametrize(
    "key", ["learning_rate_te1", "learning_rate_te2", "text_encoder_lr2", "unet_lr_2", "ae", "v1", "v3", "clip_l", "t5xxl"]
)
def test_a_name_of_its_own_beside_an_option_is_no_typo(tmp_path: Path, heard, key: str) -> None:
    for spec in (TrainNetwork, TrainDb, FineTune):
        read(tmp_path, f"{key} = 1\n", spec)
        assert key in heard.text


def test_no_foreign_key_is_an_option_or_means_one_that_is_not_there() -> None:
    names = {name for spec in SCRIPTS for option in options_of(spec) for name in option.names}
    assert not names & set(FOREIGN)
    assert set(HERE.values()) <= names
    assert all(key.whose and key.why for key in FOREIGN.values())


def test_the_foreign_keys_are_told_from_the_typos_of_options() -> None:
    known = {name: option.field for option in options_of(TrainNetwork) for name in option.names}
    near = [key for key in FOREIGN if any(abs(len(key) - len(name)) < 2 and edits(key, name) == 1 for name in known)]
    assert "ae" in near and all(judge(key, known).kind == "foreign" for key in FOREIGN)


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "", 0), ("seed", "seed", 0), ("sed", "seed", 1), ("sede", "seed", 1), ("sead", "seed", 1), ("abc", "", 3), ("ca", "abc", 3)],
)
def test_the_distance_of_names_counts_slips_of_the_fingers(one: str, other: str, steps: int) -> None:
    assert edits(one, other) == edits(other, one) == steps


@pytest.mark.parametrize("spec", SCRIPTS)
def test_each_option_of_the_newest_sd_scripts_is_an_option_or_in_the_table_with_its_reason(spec: type) -> None:
    if not SPECIFICATION.is_file():
        pytest.skip("the specification is not next to this checkout")
    rows = json.loads(SPECIFICATION.read_text(encoding="utf-8"))[spec.name]
    known = {name: option.field for option in options_of(spec) for name in option.names} | {"help": "help", "h": "h"}
    names = {flag.lstrip("-") for row in rows for flag in row["flags"]}
    assert len(names) > 100
    assert [name for name in sorted(names - set(known)) if judge(name, known).kind != "foreign"] == []
