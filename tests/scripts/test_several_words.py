"""Several new words in one run, alone and with a network: each learns from its own captions, and has a separate file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from library.model.load import load
from library.model.new_words import NewWord, add_words, side_by_side
from tests.messages import message, refusal
from tests.oracles import our_image, pipeline_image, pipeline_of
from tests.scripts.running import kept, largest_difference, tensors_equal
from tests.scripts.starting import start
from tests.small_models import write_diffusers

pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{package}.*") for package in ("diffusers", "numpy")]

CUP, HAT = "<my-cup>", "my-cup-hat"  # one is inside the other
CAT, DOG = 2368, 1929  # ids of words
WORDS = {"token_string": [CUP, HAT], "init_word": ["cat", "dog"], "num_vectors_per_token": [2, 1]}
NETWORK = {"network_module": "networks.lora", "network_dim": 2}
STILL = 1e-30  # a rate that moves no weight


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    """The photographs twice: in one half called by the one word, in the other half by the other."""
    text = ""
    for word in (CUP, HAT):
        text += f"[[datasets]]\nresolution = 64\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = '{photos}'\n"
        text += f"class_tokens = '{word} thing'\ncaption_extension = '.none'\n"
    path = tmp_path / "data.toml"
    path.write_text(text, encoding="utf-8")
    return path


def train(main, model: Path, config: Path, output: Path, **options: object) -> int:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": config,
        "output_dir": output,
        "output_name": "two",
        "save_model_as": "safetensors",
        "max_train_steps": 3,
        "learning_rate": 1e-2,
        "seed": 1,
        "max_data_loader_n_workers": 0,
    }
    return start(main, **{**common, **WORDS, **options})


def vectors(path: Path) -> torch.Tensor:
    return load_file(path)["emb_params"]


@pytest.fixture(scope="module")
def table(tiny_v1: Path) -> torch.Tensor:
    """The model's own vectors."""
    return load(tiny_v1).text_encoder.embeddings.token_embedding.weight.detach()


def test_each_word_has_its_own_start_vectors_and_file(tiny_v1: Path, config: Path, table: torch.Tensor, tmp_path: Path) -> None:
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path / "out", save_every_n_steps=2, learning_rate=STILL) == 0
    names = [f"two-{word}{step}.safetensors" for word in ("my-cup", "my-cup-hat") for step in ("", "-step00000002")]
    assert kept(tmp_path / "out") == sorted(names)
    assert vectors(tmp_path / "out" / "two-my-cup.safetensors").equal(table[[CAT, CAT]])
    assert vectors(tmp_path / "out" / "two-my-cup-hat.safetensors").equal(table[[DOG]])
    for word, file in ((CUP, "my-cup"), (HAT, "my-cup-hat")):
        with safe_open(tmp_path / "out" / f"two-{file}.safetensors", "pt") as opened:
            said = opened.metadata()
        assert said["ss_token_string"] == said["modelspec.trigger_phrase"] == word
    on = {"weights": [tmp_path / "out" / f"two-{word}.safetensors" for word in ("my-cup-hat", "my-cup")], "token_string": [HAT, CUP]}
    on |= {"num_vectors_per_token": [1, 2], "init_word": None, "output_dir": tmp_path / "on", "learning_rate": STILL}
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path, **on) == 0
    for name in ("two-my-cup.safetensors", "two-my-cup-hat.safetensors"):
        assert tensors_equal(tmp_path / "on" / name, tmp_path / "out" / name)


def test_a_word_that_no_caption_names_keeps_every_bit_and_so_does_the_vocabulary(
    tiny_v1: Path, config: Path, table: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from library.training import model_setup

    models = []
    monkeypatch.setattr(model_setup, "load", lambda *args, real=model_setup.load, **more: models.append(real(*args, **more)) or models[-1])
    words = {"token_string": [CUP, "nobody"], "optimizer_type": "AdamW", "optimizer_args": ["weight_decay=0"], "max_train_steps": 10}
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path, **words) == 0
    assert vectors(tmp_path / "two-nobody.safetensors").equal(table[[DOG]])
    assert not vectors(tmp_path / "two-my-cup.safetensors").equal(table[[CAT, CAT]])
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path, optimizer_type="AdamW", optimizer_args=["weight_decay=0.9"]) == 0
    assert all(model.text_encoder.embeddings.token_embedding.table.weight.equal(table) for model in models) and len(models) == 2


@pytest.mark.slow
def test_diffusers_reads_all_words_and_makes_the_same_image(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path, use_object_template=True, learning_rate=0.1) == 0
    files = {CUP: tmp_path / "two-my-cup.safetensors", HAT: tmp_path / "two-my-cup-hat.safetensors"}
    pipeline = pipeline_of(write_diffusers(tmp_path / "model", "v1", dtype=torch.float32))
    prompt = f"a photo of {HAT} beside {CUP}, outdoors"
    for word, file in files.items():
        pipeline.load_textual_inversion(str(tmp_path), weight_name=file.name, token=word, local_files_only=True)
    model = load(tiny_v1)
    add_words(model, *side_by_side({word: vectors(file)[None] for word, file in files.items()}))
    swapped = load(tiny_v1)
    add_words(swapped, {CUP: range(1, 2), HAT: range(1)}, NewWord(torch.cat([vectors(file) for file in files.values()])[None]))
    theirs = pipeline_image(pipeline, prompt)
    assert np.abs(our_image(model, prompt) - theirs).max() <= 1
    assert not (our_image(swapped, prompt) == theirs).all()


@pytest.mark.slow
def test_xti_trains_several_words_too(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    assert train(train_textual_inversion_XTI.main, tiny_v1, config, tmp_path, max_train_steps=10) == 0
    one, two = load_file(tmp_path / "two-my-cup.safetensors"), load_file(tmp_path / "two-my-cup-hat.safetensors")
    assert one.keys() == two.keys() and {tensor.shape[0] for tensor in one.values()} == {2}
    assert {tensor.shape[0] for tensor in two.values()} == {1} and not one["MID"][0].equal(one["IN01"][0])


REFUSED = [
    ({"token_string": [CUP, "MY-CUP-HAT", HAT]}, ("OPT-005", "--init_word", "2 values", 3)),
    ({"token_string": [HAT, HAT.upper()]}, ("MODEL-018", "--token_string MY-CUP-HAT")),
    ({"token_string": [CUP, "dog"]}, ("MODEL-014", "--token_string dog")),
    ({"token_string": [CUP, "my-cup"]}, ("MODEL-018", "--token_string my-cup:", "<my-cup>")),
    ({"token_string": [CUP, "a/b"]}, ("MODEL-018", "--token_string a/b", "folders")),
    ({"token_string": [CUP, "ema-b"]}, ("MODEL-018", "--token_string ema-b", "other files")),
    ({"num_vectors_per_token": [1, 2, 3]}, ("OPT-005", "--num_vectors_per_token", "3 values", 2)),
    ({"cache_text_encoder_outputs": "on"}, ("OPT-008", "--cache_text_encoder_outputs")),
    ({"token_string": [CUP, "<other>"], "use_object_template": True}, ("MODEL-018", "class_tokens")),
]


@pytest.mark.parametrize(("options", "asked"), REFUSED)
def test_words_that_cannot_be_told_apart_are_refused_before_the_model_is_loaded(
    options: dict, asked: tuple[object, ...], tiny_v1: Path, config: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("library.training.run.import_models", lambda **_: pytest.fail("the model would be loaded"))
    assert train(train_textual_inversion.main, tiny_v1, config, tmp_path / "out", **options) == 2
    refusal(capsys.readouterr().err, *asked)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"token_string": None}, ("OPT-009", "--init_word", "--token_string")),
        ({"embedding_lr": 0}, ("OPT-012", "--embedding_lr")),
        ({"token_string": [CUP, "a.b"], "save_words": "bundled"}, ("MODEL-018", "--token_string a.b", "first dot")),
        ({"token_string": [CUP, "bundled"]}, ("MODEL-018", "--token_string bundled", "other files")),
        ({"token_string": [CUP, "<other>"]}, ("MODEL-019", "--token_string <other>:", "class_tokens")),
        ({"network_module": "tests.methods.test_own_network", "save_words": "both"}, ("OPT-008", "--save_words")),
        ({"optimizer_type": "DAdaptAdaGrad", "embedding_lr": 0.5, "learning_rate": 1}, ("OPT-016", "DAdaptAdaGrad", 0.5)),
    ],
)
def test_words_beside_a_network_are_refused_before_the_model_is_loaded(
    options: dict, asked: tuple[object, ...], tiny_v1: Path, config: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    if "optimizer_type" in options:
        pytest.importorskip("dadaptation")
    monkeypatch.setattr("library.training.assemble.ready_model", lambda _: pytest.fail("the model would be loaded"))
    assert train(train_network.main, tiny_v1, config, tmp_path / "out", **{**NETWORK, **options}) == 2
    refusal(capsys.readouterr().err, *asked)


def test_without_a_name_words_are_named_as_the_network_of_their_epoch(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    saves = {"output_name": None, "save_every_n_epochs": 1, "save_every_n_steps": 5, "max_train_steps": 11}
    assert train(train_network.main, tiny_v1, config, tmp_path / "out", **NETWORK, **saves) == 0
    stems = {"epoch": "-000001", "at": "-step00000005", "last": ""}
    expected = [f"{stem}{word}{end}.safetensors" for stem, end in stems.items() for word in ("", "-my-cup", "-my-cup-hat")]
    assert set(expected) <= set(kept(tmp_path / "out")) and not [
        name for name in kept(tmp_path / "out") if name.startswith("last-my-cup-0")
    ]


def read_as_web_uis_do(path: Path) -> dict[str, np.ndarray]:
    """The bundled embeddings of a safetensors file by the format's own description: 8 bytes little-endian length, a JSON header, numbers.

    A key `bundle_emb.NAME.REST` belongs to NAME, which ends at the first dot; REST is `string_to_param.ANY` for the one tensor of an
    embedding.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    vectors_by_word: dict[str, np.ndarray] = {}
    for key, info in header.items():
        head, _, rest = key.partition(".")
        if head != "bundle_emb":
            continue
        name, _, inside = rest.partition(".")
        assert inside.split(".", 1)[0] == "string_to_param" and name not in vectors_by_word
        begin, end = info["data_offsets"]
        kind = {"F32": np.float32, "F16": np.float16}[info["dtype"]]
        vectors_by_word[name] = np.frombuffer(body[begin:end], kind).reshape(info["shape"])
    return vectors_by_word


def test_a_network_and_words_are_saved_side_by_side_and_as_one_file(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    """The rates and ends of all parts differ; the file with all is the network's file and the words', number by number."""
    rates = {"embedding_lr": 0.05, "learning_rate": 1e-3, "stop_embedding_training": 2}
    assert train(train_network.main, tiny_v1, config, tmp_path, **NETWORK, **rates, save_words="both", save_every_n_steps=2) == 0
    stems = [f"two{word}" for word in ("", "-my-cup", "-my-cup-hat", "-bundled")]
    assert kept(tmp_path) == sorted(["data.toml", *(f"{stem}{step}.safetensors" for stem in stems for step in ("", "-step00000002"))])
    vectors_by_word = read_as_web_uis_do(tmp_path / "two-bundled.safetensors")
    assert list(sorted(vectors_by_word)) == sorted([CUP, HAT])
    for word, file in ((CUP, "two-my-cup"), (HAT, "two-my-cup-hat")):
        assert np.array_equal(vectors_by_word[word], vectors(tmp_path / f"{file}.safetensors").numpy())
        assert tensors_equal(tmp_path / f"{file}.safetensors", tmp_path / f"{file}-step00000002.safetensors")  # they have stopped
    whole, alone = load_file(tmp_path / "two-bundled.safetensors"), load_file(tmp_path / "two.safetensors")
    assert {name for name in whole if not name.startswith("bundle_emb.")} == alone.keys()
    assert all(whole[name].equal(tensor) for name, tensor in alone.items())
    before = load_file(tmp_path / "two-step00000002.safetensors")
    moved = {name for name, tensor in alone.items() if not tensor.equal(before[name])}
    assert {name[: len("lora_te")] for name in moved} == {"lora_te", "lora_un"}  # the words have stopped, the network continues
    with safe_open(tmp_path / "two-bundled.safetensors", "pt") as opened:
        said = opened.metadata()
    assert json.loads(said["ss_new_words"]) == {CUP: 2, HAT: 1} and said["ss_embedding_lr"] == "0.05"
    with safe_open(tmp_path / "two-my-cup.safetensors", "pt") as opened:
        assert opened.metadata()["ss_learning_rate"] == "0.05" and opened.metadata()["ss_token_string"] == CUP


def test_a_bundled_file_is_gone_on_from_with_both(tiny_v1: Path, config: Path, tmp_path: Path, capsys) -> None:
    options = {**NETWORK, "save_words": "bundled"}
    assert train(train_network.main, tiny_v1, config, tmp_path / "one", **options, embedding_lr=0.05) == 0
    file = tmp_path / "one" / "two.safetensors"
    assert kept(tmp_path / "one") == ["two.safetensors"]
    still = {**options, "learning_rate": STILL, "network_weights": file}
    assert train(train_network.main, tiny_v1, config, tmp_path / "two", **still, init_word=None) == 0
    assert tensors_equal(file, tmp_path / "two" / "two.safetensors")
    assert train(train_network.main, tiny_v1, config, tmp_path / "three", **still, num_vectors_per_token=[1]) == 2
    refusal(capsys.readouterr().err, "LORA-013", f"--network_weights {file}", "<my-cup>", "2 vectors")
    without = dict.fromkeys(WORDS) | {"network_weights": file} | NETWORK
    assert train(train_network.main, tiny_v1, config, tmp_path / "four", **without) == 0
    message(capsys.readouterr().err, f"({CUP} {HAT})", "--token_string")


@pytest.mark.slow
def test_words_of_other_programs_in_a_network_file_are_gone_on_from(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    """OneTrainer's key, and an embedding's own."""
    assert train(train_network.main, tiny_v1, config, tmp_path / "one", **{**NETWORK, **dict.fromkeys(WORDS)}) == 0
    theirs = {f"bundle_emb.{CUP}.clip_l": torch.randn(2, 64), f"bundle_emb.{HAT}.emb_params": torch.randn(1, 64)}
    save_file(load_file(tmp_path / "one" / "two.safetensors") | theirs, tmp_path / "theirs.safetensors")
    still = {**NETWORK, "learning_rate": STILL, "network_weights": tmp_path / "theirs.safetensors", "init_word": None}
    assert train(train_network.main, tiny_v1, config, tmp_path / "two", **still) == 0
    assert vectors(tmp_path / "two" / "two-my-cup.safetensors").equal(theirs[f"bundle_emb.{CUP}.clip_l"])
    assert vectors(tmp_path / "two" / "two-my-cup-hat.safetensors").equal(theirs[f"bundle_emb.{HAT}.emb_params"])


@pytest.mark.slow
def test_words_train_where_the_text_encoder_does_not_and_the_network_begins_as_alone(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    unet_only = {**NETWORK, "network_train_unet_only": True, "cache_latents": True}
    assert train(train_network.main, tiny_v1, config, tmp_path / "one", **unet_only, clip_skip=2, init_word=None) == 0
    assert all(name.startswith("lora_unet") for name in load_file(tmp_path / "one" / "two.safetensors"))
    again = {**unet_only, "clip_skip": 2, "init_word": None, "gradient_checkpointing": True}
    assert train(train_network.main, tiny_v1, config, tmp_path / "two", **again) == 0
    for name in ("two", "two-my-cup", "two-my-cup-hat"):
        assert largest_difference(tmp_path / "one" / f"{name}.safetensors", tmp_path / "two" / f"{name}.safetensors") < 1e-4
    still = {**NETWORK, "learning_rate": STILL}
    assert train(train_network.main, tiny_v1, config, tmp_path / "words", **still) == 0
    assert train(train_network.main, tiny_v1, config, tmp_path / "none", **{**still, **dict.fromkeys(WORDS)}) == 0
    one, other = (load_file(tmp_path / name / "two.safetensors") for name in ("words", "none"))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one if "lora_down" in name)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [{"mixed_precision": "bf16"}, {"mixed_precision": "bf16", "full_bf16": True}])
def test_words_beside_a_network_learn_in_half_precision(
    precision: dict, tiny_v1: Path, config: Path, table: torch.Tensor, tmp_path: Path
) -> None:
    more = {"gradient_accumulation_steps": 2, "max_grad_norm_te": 0.5, "embedding_lr": 0.05, "save_precision": "float"}
    assert train(train_network.main, tiny_v1, config, tmp_path, **NETWORK, **precision, **more) == 0
    learned = vectors(tmp_path / "two-my-cup.safetensors")
    assert learned.isfinite().all() and float((learned - table[[CAT, CAT]]).abs().max()) > 0.01


def test_the_plan_names_words_vectors_and_rates(tiny_v1: Path, config: Path, tmp_path: Path, capsys) -> None:
    options = {**NETWORK, "embedding_lr": 5e-3, "stop_embedding_training": 2, "dry_run": True}
    assert train(train_network.main, tiny_v1, config, tmp_path / "out", **options) == 0
    names = ("<my-cup> (2 vectors, from 'cat')", "my-cup-hat (1 vector, from 'dog')", "0.005", "2 updates")
    message(capsys.readouterr().out, "new words", *names)
