"""train_textual_inversion.py and its XTI twin as users run them: what changes, what is written, and who reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_textual_inversion
import train_textual_inversion_XTI
from library.model.load import load
from library.model.new_words import NewWord, add_word, cross_attentions
from tests.messages import message
from tests.oracles import our_image, pipeline_image, pipeline_of
from tests.scripts.starting import dataset, start
from tests.small_models import write_diffusers

pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{package}.*") for package in ("diffusers", "numpy")]

WORD = "<shs>"
MAINS = {"plain": train_textual_inversion.main, "xti": train_textual_inversion_XTI.main}


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    return dataset(tmp_path / "data.toml", photos, subset=f"class_tokens = '{WORD} cat'\ncaption_extension = '.none'")


def train(kind: str, model: Path, config: Path, output: Path, **options: object) -> int:
    """Two quick updates with what all tests share, `options` on top."""
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": config,
        "output_dir": output,
        "token_string": WORD,
        "max_train_steps": 2,
        "learning_rate": 1e-2,
        "seed": 1,
        "max_data_loader_n_workers": 0,
    }
    return start(MAINS[kind], **{**common, **options})


@pytest.mark.parametrize("kind", MAINS)
def test_not_one_weight_of_the_model_changes_and_the_optimizer_holds_the_new_vectors_only(
    kind: str, tiny_v1: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from library.training import assemble, model_setup

    models, optimizers = [], []
    monkeypatch.setattr(model_setup, "load", lambda *args, real=model_setup.load, **more: models.append(real(*args, **more)) or models[-1])
    monkeypatch.setattr(
        assemble, "make_optimizer", lambda *args, real=assemble.make_optimizer: optimizers.append(real(*args)) or optimizers[-1]
    )
    assert train(kind, tiny_v1, config, tmp_path, num_vectors_per_token=3, init_word="cat", save_model_as="safetensors") == 0
    before = load(tiny_v1)
    layers = len(cross_attentions(before.unet)) if kind == "xti" else 1
    after = {
        f"{part}.{name.replace('token_embedding.table.', 'token_embedding.')}": tensor
        for part in ("unet", "vae", "text_encoder")
        for name, tensor in getattr(models[-1], part).state_dict().items()
    }
    vectors = after.pop("text_encoder.embeddings.token_embedding.word.vectors")
    for part in ("unet", "vae", "text_encoder"):
        for name, tensor in getattr(before, part).state_dict().items():
            assert tensor.equal(after.pop(f"{part}.{name}")), name
    assert not after
    state = optimizers[-1].optimizer.state
    held = sum(tensor.numel() for values in state.values() for tensor in values.values() if isinstance(tensor, torch.Tensor))
    assert list(state) == optimizers[-1].optimizer.param_groups[0]["params"] and held <= 2 * vectors.numel() + 1
    start_of_all = before.text_encoder.embeddings.token_embedding.weight[2368]
    assert vectors.shape == (layers, 3, 64) and not any(row.equal(start_of_all) for row in vectors.flatten(0, 1))
    saved = load_file(tmp_path / "last.safetensors")
    assert list(saved) == ["emb_params"] if kind == "plain" else set(saved) == set(cross_attentions(before.unet))
    assert torch.stack([saved[name] for name in (cross_attentions(before.unet) if kind == "xti" else saved)]).equal(vectors)


@pytest.mark.parametrize(("version", "form"), [("v1", "pt"), ("v2", "safetensors")])
def test_diffusers_reads_the_word_and_makes_the_same_image(
    version: str, form: str, tiny_v1: Path, tiny_v2: Path, config: Path, tmp_path: Path
) -> None:
    source, v2 = {"v1": tiny_v1, "v2": tiny_v2}[version], version == "v2"
    shared = {"num_vectors_per_token": 2, "save_model_as": form, "v2": v2, "save_precision": "float"}
    assert train("plain", source, config, tmp_path / "out", use_object_template=True, **shared) == 0
    path = tmp_path / "out" / f"last.{form}"
    pipeline = pipeline_of(write_diffusers(tmp_path / "model", version, dtype=torch.float32))
    prompt = f"a photo of {WORD}, outdoors"
    without = pipeline_image(pipeline, prompt)
    pipeline.load_textual_inversion(str(path.parent), weight_name=path.name, token=WORD, local_files_only=True)
    theirs = pipeline_image(pipeline, prompt)
    model = load(source, v2=v2)
    vectors = load_file(path)["emb_params"] if form == "safetensors" else torch.load(path, weights_only=True)["string_to_param"]["*"]
    add_word(model, WORD, NewWord(vectors[None]))
    assert np.abs(our_image(model, prompt) - theirs).max() <= 1 and not (without == theirs).all()


@pytest.mark.parametrize("kind", MAINS)
def test_samples_during_training_show_the_word(kind: str, tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{WORD} --w 64 --h 64 --s 2 --d 1\n", encoding="utf-8")
    sampling = {"sample_prompts": prompts, "sample_every_n_steps": 1, "learning_rate": 1.0, "use_style_template": True}
    assert train(kind, tiny_v1, config, tmp_path / "out", init_word="dog", gradient_checkpointing=True, cache_latents=True, **sampling) == 0
    images = sorted((tmp_path / "out" / "sample").glob("*.png"))
    assert len(images) == 2 and images[0].read_bytes() != images[1].read_bytes()


def test_a_word_that_stands_in_no_caption_is_warned_of(tiny_v1: Path, config: Path, tmp_path: Path, capsys) -> None:
    assert train("plain", tiny_v1, config, tmp_path / "out", token_string="<other>", dry_run=True) == 0
    said = capsys.readouterr().out
    message(said, "--token_string <other>", "captions", "class_tokens (9)")
    assert "--use_object_template" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token_string": "dog"}, ("--token_string dog", "already knows")),
        ({"token_string": None}, ("--token_string is missing",)),
        ({"weights": "nothing.pt"}, ("--weights", "nothing.pt", "no such file")),
        ({"num_vectors_per_token": 0}, ("--num_vectors_per_token", "from 1 to 75")),
    ],
)
def test_a_wrong_word_is_told_in_one_line_before_the_model_is_loaded(
    options: dict, words: tuple[str, ...], tiny_v1: Path, config: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("plain", tiny_v1, config, tmp_path / "out", **options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert not (tmp_path / "out").exists()
