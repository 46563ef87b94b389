"""Command lines and --config_file files become values, and every fault in them is told at once."""

from pathlib import Path

import pytest

from library.errors import UserError
from library.options.declare import options_table
from library.options.groups.scripts import FineTune, TrainNetwork
from library.options.reading.parse import parse


def read(*argv: str) -> TrainNetwork:
    return parse(TrainNetwork, argv)


def problems(*argv: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as fault:
        read(*argv)
    return fault.value.problems


@pytest.fixture
def config(tmp_path: Path):
    path = tmp_path / "cfg.toml"

    def write(text: str) -> str:
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_command_line_wins_over_file_and_file_over_default(config) -> None:
    file = config("[a]\nseed = 1\ntrain_batch_size = 4\n")
    options = read("--config_file", file, "--seed", "2")
    assert (options.training.seed, options.data.train_batch_size, options.network.network_alpha) == (2, 4, 1.0)
    assert options.origin("seed") == "--seed"
    assert options.origin("train_batch_size") == f"--config_file {file}, key [a] train_batch_size"
    assert not options.given("network_alpha")


def test_the_ending_of_the_config_file_may_be_left_out(config) -> None:
    file = config("seed = 1\n")
    assert read("--config_file", file.removesuffix(".toml")).training.seed == 1


def test_values_of_every_kind_are_read_from_the_command_line() -> None:
    line = "--v2 --seed=7 --learning_rate 1e-4 --adaptive_noise_scale -0.1 --optimizer_args weight_decay=0.01 betas=.9,.999 --network_args"
    spaced = ("--dataset_config", "a b.toml", "--training_comment", "- two words")
    options = read(*line.split(), *spaced, "--base_weights_multiplier", "1", "0.5")
    assert options.model.v2 and options.training.seed == 7 and options.optimizer.learning_rate == 1e-4
    assert options.diffusion.adaptive_noise_scale == -0.1
    assert options.optimizer.optimizer_args == ("weight_decay=0.01", "betas=.9,.999") and options.network.network_args == ()
    assert options.data.dataset_config == Path("a b.toml") and options.saving.training_comment == "- two words"
    assert options.network.base_weights_multiplier == (1.0, 0.5)


def test_values_of_every_kind_are_read_from_the_file(config) -> None:
    file = config(
        "\ufeffv2 = true\nlearning_rate = 1\nseed = 5\nresolution = [512, 768]\nnetwork_args = ['conv_dim=4']\n[a.b]\n"
        "dataset_config = 'C:\\x\\d.toml'\nvae = ''\nmax_token_length = 'none'\nbase_weights_multiplier = [1, 2]\n"
    )
    options = read("--config_file", file)
    assert options.model.v2 is True and options.optimizer.learning_rate == 1.0 and isinstance(options.optimizer.learning_rate, float)
    assert options.data.resolution == "512,768" and options.network.network_args == ("conv_dim=4",)
    assert options.data.dataset_config == Path("C:\\x\\d.toml") and options.network.base_weights_multiplier == (1.0, 2.0)
    assert options.model.vae is None and options.model.max_token_length is None


@pytest.mark.parametrize(
    ("alias", "value", "field"),
    [("caption_extention", ".txt", "caption_extension"), ("scheduler_args", "a=1", "lr_scheduler_args")],
)
def test_other_spellings_are_accepted_on_both_ways(config, alias: str, value: str, field: str) -> None:
    file = config(f"{alias} = " + (f"['{value}']" if field.endswith("args") else f"'{value}'"))
    for options in (read(f"--{alias}", value), read("--config_file", file)):
        found = getattr(options.data if field.startswith("caption") else options.optimizer, field)
        assert found in (value, (value,))
        assert options.given(field)


def test_a_flag_given_twice_keeps_its_last_value_and_says_so(heard) -> None:
    assert read("--seed", "1", "--seed", "2").training.seed == 2
    assert "--seed is given more than once" in heard.text


def test_the_start_of_a_name_is_accepted_and_the_option_is_named(heard) -> None:
    assert read("--learning_rat", "1", "--seed=3").optimizer.learning_rate == 1
    assert "--learning_rat: is short for --learning_rate; " in heard.text and "--seed" not in heard.text


def test_all_faults_of_command_line_and_file_are_told_at_once(config) -> None:
    file = config('[training]\nlerning_rate = 1e-4\nmax_train_steps = "many"\n')
    line = "--sed 4 --mixed_precision FP16 --v2 true --seed --save_every_n_steps -1"
    found = problems("--config_file", file, *line.split())
    assert found == (
        "--sed: unknown option; did you mean --seed?",
        "--mixed_precision: expected one of no, fp16, bf16, not 'FP16'; did you mean fp16?",
        "--v2: is a switch and takes no value (found 'true'); write --v2 alone",
        "--seed: the value is missing; expected a whole number from 0 to 4294967295",
        "--save_every_n_steps: expected a whole number from 1 to 1000000000 (0 = off), not -1",
        f"--config_file {file}, key [training] lerning_rate: unknown option; did you mean learning_rate?",
        f"--config_file {file}, key [training] max_train_steps: expected a whole number from 1 to 1000000000, not 'many'",
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--max_train 3", "--max_train: matches --max_train_steps, --max_train_epochs; write the one you want in full"),
        ("--sdxl", "--sdxl: unknown option; it belongs to SDXL (SDXL is not trained here); remove it"),
        ("--epoch 3", "--epoch: unknown option; it belongs to kohya_ss (the GUI's own setting); here it is --max_train_epochs"),
        ("--network-dim 3", "--network-dim: unknown option; did you mean --network_dim?"),
        ("-seed 3", "-seed: unknown option; did you mean --seed?"),
        ("—seed 3", "—seed: unknown option; did you mean --seed?"),
        (
            "--batch_size 3",
            "--batch_size: unknown option; it is a key of a dataset config (--dataset_config); here it is --train_batch_size",
        ),
        (
            "--class_tokens dog",
            "--class_tokens: unknown option; it is a key of a dataset config (--dataset_config); without one it is part of folder names, "
            "such as '10_shs dog'",
        ),
        ("--zzzz", "--zzzz: unknown option; --help lists all options"),
        ("--learning_rate 0,0001", "--learning_rate: expected a number from 0 to 1000, not '0,0001'; write 0.0001, with a decimal point"),
        ("--learning_rate nan", "--learning_rate: expected a number from 0 to 1000, not 'nan'"),
        ("--train_batch_size 2.0", "--train_batch_size: expected a whole number from 1 to 65536, not '2.0'; write 2"),
        ("--train_batch_size 0", "--train_batch_size: expected a whole number from 1 to 65536, not 0"),
        ("--caption_dropout_rate 1.5", "--caption_dropout_rate: expected a number from 0 to 1, not 1.5"),
        ("--max_token_length -1", "--max_token_length: expected one of 75, 150, 225 (0 = off), not -1"),
        ("--resolution 512, 768", "--resolution: takes one value (found '512, 768'); a value with spaces needs quotation marks"),
        ("stray", "'stray': unexpected argument that belongs to no option; values with spaces need quotation marks"),
    ],
)
def test_a_fault_on_the_command_line_is_told_with_its_remedy(argv: str, message: str) -> None:
    assert problems(*argv.split()) == (message,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("clip_skip = '2.5'", "expected a whole number from 1 to 24 (0 = off), not '2.5'; write 2 or another whole number"),
        ("v2 = 'yes'", "expected true or false, not 'yes'; write v2 = true"),
        ("v2 = 2", "expected true or false, not 2; write v2 = true"),
        ("seed = true", "expected a whole number from 0 to 4294967295, not true"),
        ("seed = [1, 2]", "expected a whole number from 0 to 4294967295, not a list; write seed = 1"),
        ("max_train_steps = 0", "expected a whole number from 1 to 1000000000, not 0"),
        ("output_name = true", 'expected text, not true; put it in quotation marks: output_name = "True"'),
        ("learning_rate = '0,0001'", "expected a number from 0 to 1000, not '0,0001'; write 0.0001, with a decimal point"),
        ("loss_type = 'L3'", "expected one of l1, l2, huber, smooth_l1, not 'L3'"),
        ("config_file = 'x'", "belongs on the command line, not in the file"),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_key_and_remedy(config, line: str, message: str) -> None:
    file = config(line)
    assert problems("--config_file", file) == (f"--config_file {file}, key {line.split()[0]}: {message}",)


def test_sizes_and_ranges_may_be_lists_in_the_file(config) -> None:
    options = parse(TrainNetwork, ["--config_file", config("resolution = [512, 768]\nface_crop_aug_range = [2.0, 4.5]\n")])
    values = options_table(options)
    assert values["resolution"] == "512,768" and values["face_crop_aug_range"] == "2.0,4.5"


def test_an_option_of_other_scripts_is_an_error_on_the_command_line_and_a_warning_in_the_file(config, heard) -> None:
    file = config("network_dim = 4\nprior_loss_weight = 1.0\n")
    parse(FineTune, ["--config_file", file])
    assert f"--config_file {file}: 2 keys have no effect: network_dim – of train_network.py only; prior_loss_weight – of " in heard.text
    with pytest.raises(UserError) as fault:
        parse(FineTune, ["--stop_text_encoder_training", "9"])
    assert fault.value.problems == (
        "--stop_text_encoder_training: unknown option; it belongs to train_network.py and train_db.py only; remove it here",
    )


def test_a_key_in_two_sections_is_refused_only_when_the_values_differ(config) -> None:
    assert read("--config_file", config("[a]\nseed = 1\n[b]\nseed = 1\n")).training.seed == 1
    (line,) = problems("--config_file", config("[a]\nseed = 1\n[b]\nseed = 2\n"))
    assert line.endswith("key [b] seed: set twice with different values, also as [a] seed; keep one of them")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed 1\n", "line 1 is not valid TOML"),
        ("\nv2 = True\n", "line 2 is not valid TOML"),
        ('vae = "C:\\models\\x"\n', "put Windows paths in 'single' ones"),
        ("base_weights_multiplier = [1, 0.5]\n", "numbers in a list must all have a decimal point"),
        ("seed = 1\nseed = 2\n", "a key or section appears twice"),
        ("[general]\nresolution = 512\n[[datasets]]\nbatch_size = 1\n", "use the file with --dataset_config instead"),
    ],
)
def test_a_broken_file_is_told_in_one_line(config, text: str, words: str) -> None:
    (line,) = problems("--config_file", config(text))
    assert words in line and "\n" not in line


def test_a_missing_config_file_names_the_nearest_one(config, tmp_path: Path) -> None:
    config("seed = 1\n")
    assert problems("--config_file", str(tmp_path / "cgf")) == (
        f"--config_file {tmp_path / 'cgf.toml'}: no such file; did you mean {tmp_path / 'cfg.toml'}?",
    )


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes("training_comment = '犬'\n".encode("shift_jis"))
    (line,) = problems("--config_file", str(tmp_path / "c"))
    assert "not UTF-8 text" in line


def test_secrets_never_appear_in_messages(config) -> None:
    file = config("wandb_api_key = true\nwandb_api_kye = 'SECRET'\nhuggingface_token = ['SECRET', '77777']\n")
    line = "--wandb_api_kye SECRET --huggingface_token SECRET SECRET --hugingface_token=SECRET"
    lines = problems(*line.split(), "--config_file", file)
    lines += problems("--config_file", config("huggingface_token = SECRET\n"))  # not valid TOML
    assert len(lines) == 7
    assert not any("SECRET" in line or "77777" in line for line in lines)


def test_help_is_printed_and_ends_with_success(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        read("--sed", "-h")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{row}" in shown for row in ("pretrained_model_name_or_path", "network_dim", "caption_extention", "sample_sampler"))
    assert max(map(len, shown.splitlines())) <= 110
