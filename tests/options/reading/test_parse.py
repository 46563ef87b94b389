"""Command lines and --config_file files become values, and all errors in them are reported at once."""

from pathlib import Path

import pytest

from library.errors import Problem, UserError
from library.options.declare import options_table
from library.options.groups.scripts import FineTune, TrainNetwork
from library.options.reading.parse import parse
from tests.messages import message, refusal, refusals


def read(*argv: str) -> TrainNetwork:
    return parse(TrainNetwork, argv)


def problems(*argv: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        read(*argv)
    return error.value.problems


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
        read_value = getattr(options.data if field.startswith("caption") else options.optimizer, field)
        assert read_value in (value, (value,))
        assert options.given(field)


def test_a_flag_given_twice_keeps_its_last_value_and_says_so(heard) -> None:
    assert read("--seed", "1", "--seed", "2").training.seed == 2
    message(heard.lines, "--seed", "more than once")


def test_the_start_of_a_name_is_accepted_and_the_option_is_named(heard) -> None:
    assert read("--learning_rat", "1", "--seed=3").optimizer.learning_rate == 1
    assert "--learning_rat: is short for --learning_rate; " in heard.text and "--seed" not in heard.text


def test_all_faults_of_command_line_and_file_are_told_at_once(config) -> None:
    file = config('[training]\nlerning_rate = 1e-4\nmax_train_steps = "many"\n')
    line = "--sed 4 --mixed_precision FP16 --v2 true --seed --save_every_n_steps -1"
    refusals(
        problems("--config_file", file, *line.split()),
        ("OPT-001", "--sed", "--seed"),
        ("OPT-006", "--mixed_precision", "no, fp16, bf16", "'FP16'", "mean fp16"),
        ("OPT-005", "--v2", "'true'"),
        ("OPT-004", "--seed", 0, 4294967295),
        ("OPT-006", "--save_every_n_steps", 1, 1000000000, "0 = off", "not -1"),
        ("CFG-006", f"--config_file {file}, key [training] lerning_rate", "learning_rate"),
        ("CFG-008", f"--config_file {file}, key [training] max_train_steps", 1, 1000000000, "'many'"),
    )


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ("--max_train 3", ("OPT-002", "--max_train", "--max_train_steps", "--max_train_epochs")),
        ("--sdxl", ("OPT-001", "--sdxl", "SDXL", "remove it")),
        ("--epoch 3", ("OPT-001", "--epoch", "kohya_ss", "--max_train_epochs")),
        ("--network-dim 3", ("OPT-001", "--network-dim", "--network_dim")),
        ("-seed 3", ("OPT-001", "-seed:", "--seed")),
        ("—seed 3", ("OPT-001", "—seed", "--seed")),
        ("--batch_size 3", ("OPT-001", "--batch_size", "--dataset_config", "--train_batch_size")),
        ("--class_tokens dog", ("OPT-001", "--class_tokens", "--dataset_config", "'10_shs dog'")),
        ("--zzzz", ("OPT-001", "--zzzz", "--help")),
        ("--learning_rate 0,0001", ("OPT-006", "--learning_rate", 1000, "'0,0001'", "write 0.0001")),
        ("--learning_rate nan", ("OPT-006", "--learning_rate", 0, 1000, "'nan'")),
        ("--train_batch_size 2.0", ("OPT-006", "--train_batch_size", 1, 65536, "'2.0'", "write 2")),
        ("--train_batch_size 0", ("OPT-006", "--train_batch_size", 1, 65536, "not 0")),
        ("--caption_dropout_rate 1.5", ("OPT-006", "--caption_dropout_rate", 0, 1, "not 1.5")),
        ("--max_token_length -1", ("OPT-006", "--max_token_length", "75, 150, 225", "0 = off", "not -1")),
        ("--resolution 512, 768", ("OPT-005", "--resolution", "'512, 768'", "quotation marks")),
        ("stray", ("OPT-003", "'stray'", "quotation marks")),
    ],
)
def test_a_fault_on_the_command_line_is_told_with_its_remedy(argv: str, asked: tuple[object, ...]) -> None:
    refusals(problems(*argv.split()), asked)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("clip_skip = '2.5'", ("CFG-008", 1, 24, "0 = off", "'2.5'", "write 2")),
        ("v2 = 'yes'", ("CFG-008", "'yes'", "write v2 = true")),
        ("v2 = 2", ("CFG-008", "not 2", "write v2 = true")),
        ("seed = true", ("CFG-008", 0, 4294967295, "not true")),
        ("seed = [1, 2]", ("CFG-008", 0, 4294967295, "list", "write seed = 1")),
        ("max_train_steps = 0", ("CFG-008", 1, 1000000000, "not 0")),
        ("output_name = true", ("CFG-008", "not true", 'output_name = "True"')),
        ("learning_rate = '0,0001'", ("CFG-008", 1000, "'0,0001'", "write 0.0001")),
        ("loss_type = 'L3'", ("CFG-008", "l1, l2, huber, smooth_l1", "'L3'")),
        ("config_file = 'x'", ("CFG-007", "command line")),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_key_and_remedy(config, line: str, asked: tuple[object, ...]) -> None:
    file = config(line)
    refusals(problems("--config_file", file), (*asked, f"--config_file {file}, key {line.split()[0]}:"))


def test_sizes_and_ranges_may_be_lists_in_the_file(config) -> None:
    options = parse(TrainNetwork, ["--config_file", config("resolution = [512, 768]\nface_crop_aug_range = [2.0, 4.5]\n")])
    values = options_table(options)
    assert values["resolution"] == "512,768" and values["face_crop_aug_range"] == "2.0,4.5"


def test_an_option_of_other_scripts_is_an_error_on_the_command_line_and_a_warning_in_the_file(config, heard) -> None:
    file = config("network_dim = 4\nprior_loss_weight = 1.0\n")
    parse(FineTune, ["--config_file", file])
    warning = message(heard.lines, f"--config_file {file}", "2 keys")
    message([warning], "network_dim – of train_network.py", "prior_loss_weight – of")
    with pytest.raises(UserError) as error:
        parse(FineTune, ["--stop_text_encoder_training", "9"])
    refusals(error.value, ("OPT-001", "--stop_text_encoder_training", "train_network.py and train_db.py", "remove it"))


def test_a_key_in_two_sections_is_refused_only_when_the_values_differ(config) -> None:
    assert read("--config_file", config("[a]\nseed = 1\n[b]\nseed = 1\n")).training.seed == 1
    refusals(problems("--config_file", config("[a]\nseed = 1\n[b]\nseed = 2\n")), ("CFG-009", "key [b] seed", "[a] seed"))


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("seed 1\n", ("CFG-002", "line 1")),
        ("\nv2 = True\n", ("CFG-002", "line 2")),
        ('vae = "C:\\models\\x"\n', ("CFG-002", "Windows paths", "'single'")),
        ("base_weights_multiplier = [1, 0.5]\n", ("CFG-002", "list", "decimal point")),
        ("seed = 1\nseed = 2\n", ("CFG-002", "twice")),
        ("[general]\nresolution = 512\n[[datasets]]\nbatch_size = 1\n", ("CFG-007", "--dataset_config")),
    ],
)
def test_a_broken_file_is_told_in_one_line(config, text: str, asked: tuple[object, ...]) -> None:
    file = config(text)
    (line,) = problems("--config_file", file)
    refusal([line], *asked, file)
    assert "\n" not in line


def test_a_missing_config_file_names_the_nearest_one(config, tmp_path: Path) -> None:
    config("seed = 1\n")
    refusals(
        problems("--config_file", str(tmp_path / "cgf")),
        ("PATH-001", f"--config_file {tmp_path / 'cgf.toml'}", f"{tmp_path / 'cfg.toml'}?"),
    )


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes("training_comment = '犬'\n".encode("shift_jis"))
    refusals(problems("--config_file", str(tmp_path / "c")), ("CFG-001", f"--config_file {tmp_path / 'c.toml'}", "UTF-8"))


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
