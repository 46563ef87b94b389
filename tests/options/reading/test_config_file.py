"""--output_config writes a file that gives the same options when it is read, and nothing that must not be written."""

from pathlib import Path

import pytest
import toml

from library.options.declare import options_of, options_table
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from tests.messages import refused

ARGV = [
    *("--v2", "--seed", "5", "--learning_rate", "1e-4", "--network_args", "conv_dim=4", 'n="é"', "--base_weights_multiplier", "1", "0.5"),
    *("--training_comment", 'He said "hi" \\o/ it\'s\tdone', "--dataset_config", "C:\\my images\\d.toml", "--resolution", "512,768"),
]


def write(path: Path, *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        parse(TrainNetwork, [*argv, "--output_config", "--config_file", str(path)])
    assert end.value.code == 0
    return path.with_suffix(".toml").read_text(encoding="utf-8")


def test_the_written_file_gives_the_same_values_when_read(tmp_path: Path) -> None:
    write(tmp_path / "out", *ARGV)
    again = options_table(parse(TrainNetwork, ["--config_file", str(tmp_path / "out")]))
    assert again | {"config_file": None} == options_table(parse(TrainNetwork, ARGV))


def test_only_what_differs_from_the_default_is_in_force_and_the_rest_stands_as_remarks(tmp_path: Path) -> None:
    text = write(tmp_path / "out.toml", "--seed", "5", "--train_batch_size", "1")
    tables = toml.loads(text)
    assert {key: value for section in tables.values() for key, value in section.items()} == {"seed": 5}
    assert set(tables) == {option.group for option in options_of(TrainNetwork)} - {"config"}
    assert "\n# train_batch_size = 1\n" in text and "\n# learning_rate = 2e-06\n" in text and "\n# vae =  # not set" in text


def test_remarks_taken_away_give_the_defaults(tmp_path: Path) -> None:
    text = write(tmp_path / "out")
    fields = {option.field: option for option in options_of(TrainNetwork)}
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    entries = [line for line in lines if line.partition(" = ")[0] in fields and "# not set" not in line]
    assert len(entries) > 60
    for name, value in toml.loads("\n".join(entries)).items():
        default = fields[name].default
        assert value == (list(default) if fields[name].is_list else default), name


def test_secrets_are_not_written(tmp_path: Path) -> None:
    text = write(tmp_path / "out", "--huggingface_token", "hf_SECRET", "--wandb_api_key", "SECRET")
    assert "SECRET" not in text


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.toml").write_text("seed = 1\n", encoding="utf-8")
    with refused("PATH-011", "out.toml"):
        parse(TrainNetwork, ["--output_config", "--config_file", str(tmp_path / "out")])
    assert (tmp_path / "out.toml").read_text(encoding="utf-8") == "seed = 1\n"


@pytest.mark.parametrize(
    ("argv", "code"), [(["--output_config"], "OPT-009"), (["--output_config", "--config_file", "/no/such/folder/out"], "PATH-005")]
)
def test_a_file_that_cannot_be_written_is_told(argv: list[str], code: str) -> None:
    with refused(code, "--output_config", "--config_file"):
        parse(TrainNetwork, argv)
