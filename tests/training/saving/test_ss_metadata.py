"""What a saved file tells: keys and kinds of value that other programs read, the model standard's words, and what is kept back."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from library.containers.weights_file import HASH_KEY, SPEC_KEY, TensorInfo, write_safetensors
from library.model.family import FAMILIES
from library.options.groups.saving import NetworkSavingOptions, SavingOptions
from library.training.saving import manifest, ss_metadata
from library.training.saving.model_spec import model_spec
from library.training.saving.privacy import private

VALUES = {
    "ss_output_name": "our cat",
    "ss_learning_rate": 1e-4,
    "ss_network_dim": 8,
    "ss_network_args": {"conv_dim": "4", "preset": "/home/me/lycoris.toml"},
    "ss_sd_model_name": "secret-merge.safetensors",
    "ss_sd_model_hash": "0123abcd",
    "ss_new_sd_model_hash": "ab" * 32,
    "ss_vae_name": "me/vae",
    "ss_training_comment": "trigger: shs / cat",
    "ss_face_crop_aug_range": None,
    "ss_lr_scheduler_type": "C:\\my\\schedules.Mine",
    "ss_tag_frequency": {"10_shs cat": {"shs": 3, "sitting": 1}, "reg": {"cat": 2}},
    "ss_dataset_dirs": {"10_shs cat": {"n_repeats": 10, "img_count": 3}},
    "ss_reg_dataset_dirs": {"reg": {"n_repeats": 1, "img_count": 2}},
    "ss_datasets": [
        {
            "resolution": [512, 512],
            "tag_frequency": {"10_shs cat": {"shs": 3}},
            "subsets": [{"img_count": 3, "image_dir": "10_shs cat", "class_tokens": "shs cat", "metadata_file": "meta_cat.json"}],
        }
    ],
}


def test_full_leaves_everything_as_it_is() -> None:
    assert private(VALUES, "full") == VALUES


def test_no_paths_tells_no_name_of_a_folder_or_file_and_all_else() -> None:
    told = private(VALUES, "no_paths")
    text = json.dumps(told)
    for name in ("10_shs cat", "secret-merge", "me/vae", "meta_cat", "/home/me", "my\\\\schedules", '"reg"'):
        assert name not in text, name
    assert told["ss_tag_frequency"] == {"folder-1": {"shs": 3, "sitting": 1}, "folder-2": {"cat": 2}}
    assert told["ss_dataset_dirs"] == {"folder-1": {"n_repeats": 10, "img_count": 3}}  # the same folder, the same number
    assert told["ss_reg_dataset_dirs"] == {"folder-2": {"n_repeats": 1, "img_count": 2}}
    assert told["ss_datasets"][0]["subsets"] == [{"img_count": 3, "image_dir": "folder-1", "class_tokens": "shs cat"}]
    assert told["ss_network_args"] == {"conv_dim": "4"}
    same = ("ss_output_name", "ss_learning_rate", "ss_sd_model_hash", "ss_new_sd_model_hash", "ss_training_comment")
    assert all(told[key] == VALUES[key] for key in same)


def test_technical_tells_no_words_either() -> None:
    told = private(VALUES, "technical")
    text = json.dumps(told)
    for word in ("shs", "cat", "sitting", "folder-", "trigger"):
        assert word not in text, word
    assert (told["ss_learning_rate"], told["ss_network_dim"], told["ss_sd_model_hash"]) == (1e-4, 8, "0123abcd")
    assert told["ss_datasets"] == [{"resolution": [512, 512], "subsets": [{"img_count": 3}]}]


def test_what_was_given_is_not_changed() -> None:
    before = json.dumps(VALUES)
    private(VALUES, "technical")
    assert json.dumps(VALUES) == before


# ---- the model standard

ARCHITECTURES = [
    ("full_model", "v1", "epsilon", "stable-diffusion-v1"),
    ("network", "v1", "epsilon", "stable-diffusion-v1/lora"),
    ("network", "v2", "epsilon", "stable-diffusion-v2-512/lora"),
    ("full_model", "v2", "v_prediction", "stable-diffusion-v2-768-v"),
    ("textual_inversion", "v2", "v_prediction", "stable-diffusion-v2-768-v/textual-inversion"),
    ("xti", "v1", "epsilon", "stable-diffusion-v1/textual-inversion"),
]


def spec(
    method: str = "network",
    version: str = "v1",
    prediction: str = "epsilon",
    word: str | None = None,
    clip_skip: int | None = None,
    timesteps: range = range(1000),
    **options: str,
) -> dict[str, str]:
    return model_spec(
        NetworkSavingOptions(**{"output_name": "cat"} | options),
        clip_skip=clip_skip,
        timesteps=timesteps,
        method=method,
        family=FAMILIES[version],
        prediction=prediction,
        resolutions=[(512, 512), (768, 640)],
        trigger=word,
        now=0.0,
    )


@pytest.mark.parametrize(("method", "version", "prediction", "architecture"), ARCHITECTURES)
def test_architectures_have_the_standards_names(method: str, version: str, prediction: str, architecture: str) -> None:
    told = spec(method, version, prediction)
    assert told["modelspec.architecture"] == architecture
    assert told["modelspec.prediction_type"] == ("v" if prediction == "v_prediction" else "epsilon")
    assert {f"modelspec.{key}" for key in ("sai_model_spec", "implementation", "title", "date", "resolution")} <= told.keys()
    assert all(isinstance(value, str) for value in told.values())


def test_the_users_own_words_are_told() -> None:
    words = {f"metadata_{word}": f"my {word}" for word in ("title", "author", "description", "license", "tags")}
    told = spec(**words, clip_skip=2, timesteps=range(100, 900))
    assert {key: told[f"modelspec.{key}"] for key in ("title", "author", "description", "license", "tags")} == {
        key: f"my {key}" for key in ("title", "author", "description", "license", "tags")
    }
    assert (told["modelspec.encoder_layer"], told["modelspec.resolution"]) == ("2", "768x640")
    assert told["modelspec.timestep_range"] == "100,900"
    assert told["modelspec.date"] == "1970-01-01T00:00:00Z" and told["modelspec.sai_model_spec"] == "1.0.0"


def test_technical_makes_a_title_up_and_tells_no_trigger() -> None:
    told = spec(metadata_privacy="technical", word="shs")
    assert told["modelspec.title"] == "stable-diffusion-v1 lora" and "modelspec.trigger_phrase" not in told
    assert spec(word="shs")["modelspec.trigger_phrase"] == "shs" and spec()["modelspec.title"] == "cat"
    assert spec(metadata_privacy="technical", metadata_title="mine")["modelspec.title"] == "mine"


def test_no_metadata_leaves_of_the_standard_what_loads_the_file() -> None:
    told = ss_metadata.minimal_spec(spec(metadata_author="me"), SavingOptions(metadata_author="me"))
    assert set(told) == {f"modelspec.{key}" for key in ("sai_model_spec", "architecture", "implementation", "prediction_type", "author")}


def test_the_standards_hash_is_that_of_all_behind_the_header(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.float16), "empty": torch.zeros(0)}
    kinds = {torch.float32: "F32", torch.float16: "F16"}
    infos = {name: TensorInfo(kinds[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    path = tmp_path / "a.safetensors"
    write_safetensors(path, infos, tensors.__getitem__, {SPEC_KEY: "1.0.0", "note": "犬"})
    content = path.read_bytes()
    behind = content[8 + int.from_bytes(content[:8], "little") :]
    with safe_open(path, "pt") as file:
        assert file.metadata()[HASH_KEY] == f"0x{hashlib.sha256(behind).hexdigest()}"
        assert torch.equal(file.get_tensor("b"), tensors["b"]) and file.metadata()["note"] == "犬"
    write_safetensors(path, infos, tensors.__getitem__, {"note": "a"})
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"note": "a"}


def test_model_hashes_are_those_of_the_web_uis(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(range(256)) * 5000)  # 1.28 MB: the short hash reads 64 KiB at 1 MiB
    values = ss_metadata.ModelHash("sd_model", str(path)).values()
    assert values == {
        "ss_sd_model_name": "model.safetensors",
        "ss_sd_model_hash": hashlib.sha256(path.read_bytes()[0x100000:0x110000]).hexdigest()[:8],
        "ss_new_sd_model_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert ss_metadata.ModelHash("vae", None).values() == {}
    assert ss_metadata.ModelHash("vae", "owner/name").values() == {"ss_vae_name": "owner/name"}


def test_images_are_hashed_in_their_order_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "b", tmp_path / "a"]
    for path, content in zip(paths, (b"12", b"345"), strict=True):
        path.write_bytes(content)
    monkeypatch.setattr(manifest, "MOST_HASHED", 5)
    assert manifest.ImageHash(paths).value() == hashlib.sha256(b"12345").hexdigest()
    monkeypatch.setattr(manifest, "MOST_HASHED", 4)
    assert manifest.ImageHash(paths).value() is None
    monkeypatch.setattr(manifest, "MOST_HASHED", 5)
    paths[0].unlink()
    assert manifest.ImageHash(paths).value() is None
