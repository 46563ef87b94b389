"""What a model is, from headers alone; each wrong file or flag gives one clear line before anything heavy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.errors import Problem, UserError
from library.model.family import V1, V2
from library.model.files.facts import check_flags, inspect
from library.model.load import load
from tests.messages import refusal, refused
from tests.small_models import write_checkpoint, write_diffusers

UNET_IN = "model.diffusion_model.input_blocks.0.0.weight"


def _fault(path) -> Problem:
    with pytest.raises(UserError) as error:
        inspect(path)
    (problem,) = error.value.problems
    assert "\n" not in problem and problem.startswith("--pretrained_model_name_or_path")
    return problem


def _saved(path, state, metadata=None):
    save_file(state, path, metadata)
    return path


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("layout", ["safetensors", "ckpt", "diffusers"])
def test_version_and_layout_are_seen_in_narrow_models_too(version, layout, checkpoints, folders, tmp_path):
    path = {"safetensors": checkpoints[version], "diffusers": folders[version]}.get(layout)
    facts = inspect(path or write_checkpoint(tmp_path / "model.ckpt", version))
    assert (facts.family.name, facts.layout, facts.in_channels, facts.has_vae) == (version, layout, 4, True)


def test_looking_at_a_model_imports_no_torch(checkpoints, folders, tmp_path):
    paths = [str(checkpoints["v1"]), str(folders["v2"]), str(write_checkpoint(tmp_path / "model.ckpt"))]
    script = (
        "import sys\nfrom library.model.load import inspect, check_flags\n"
        f"for path in {paths!r}: inspect(path)\n"
        "print([name for name in ('torch', 'safetensors', 'diffusers', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("metadata", "marker", "expected"),
    [
        (None, None, None),
        ({"modelspec.prediction_type": "v"}, None, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, None, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, "v_prediction"),
        (None, "v_pred", "v_prediction"),
    ],
)
def test_the_prediction_is_taken_from_metadata_or_marker(metadata, marker, expected, checkpoints, tmp_path):
    state = load_file(checkpoints["v2"])
    if marker:
        state[marker] = torch.zeros(0)
    assert inspect(_saved(tmp_path / "m.safetensors", state, metadata)).prediction == expected


@pytest.mark.parametrize(
    ("version", "v2", "v_parameterization", "prediction", "problem"),
    [
        ("v1", True, False, None, "--v2 contradicts the weights"),
        ("v2", False, False, None, "--v2 is missing"),
        ("v2", True, True, "epsilon", "--v_parameterization contradicts"),
        ("v2", True, False, "v_prediction", "--v_parameterization is missing"),
        ("v1", False, False, None, None),
        ("v1", False, True, None, None),
        ("v2", True, False, None, None),
        ("v2", True, True, None, None),
        ("v2", True, True, "v_prediction", None),
    ],
)
def test_flags_that_contradict_the_weights_are_told(version, v2, v_parameterization, prediction, problem, checkpoints):
    from dataclasses import replace

    facts = replace(inspect(checkpoints[version]), prediction=prediction)
    if problem is None:
        check_flags(facts, v2, v_parameterization)
    else:
        with refused("MODEL-007", problem):
            check_flags(facts, v2, v_parameterization)


def test_v_parameterization_without_v2_is_allowed_with_a_warning(checkpoints, heard):
    check_flags(inspect(checkpoints["v1"]), False, True)
    load(checkpoints["v1"], v_parameterization=True)  # what each script does next
    assert heard.text.count("--v_parameterization without --v2") == 1


@pytest.mark.parametrize("kind", ["v1", "folder"])
def test_clip_skip_counts_the_layers_that_the_text_encoder_has(kind, checkpoints, tmp_path):
    facts = inspect(checkpoints["v1"] if kind == "v1" else write_diffusers(tmp_path / "model"))
    assert facts.text_layers == 2
    check_flags(facts, False, False, clip_skip=2)
    with refused("MODEL-015", "--clip_skip 3", "2 layers", "use 1 or 2"):
        check_flags(facts, False, False, clip_skip=3)
    check_flags(inspect(checkpoints["v2"]), True, False, clip_skip=24)  # ignored for v2


def test_clip_skip_is_left_out_for_v2_with_a_warning(heard):
    assert V1.usable_clip_skip(2) == 2 and V1.usable_clip_skip(None) is None and V2.usable_clip_skip(None) is None
    assert not heard.lines
    assert V2.usable_clip_skip(2) is None
    assert "--clip_skip 2" in heard.text
    with refused("MODEL-015", "--clip_skip 0"):
        V1.usable_clip_skip(0)


@pytest.mark.parametrize(("channels", "kind"), [(5, "a depth-to-image model"), (8, "InstructPix2Pix"), (7, "an upscaler")])
def test_models_for_other_tasks_are_refused(channels, kind, checkpoints, tmp_path):
    state = load_file(checkpoints["v1"])
    state[UNET_IN] = torch.zeros(state[UNET_IN].shape[0], channels, 3, 3)
    assert f"{kind}" in _fault(_saved(tmp_path / "m.safetensors", state))


@pytest.mark.parametrize(
    ("name", "tensor", "asked"),
    [
        ("model.diffusion_model.time_embed.0.weight", torch.ones(8, 8, dtype=torch.int8), ("I8", "not quantized")),
        ("model.diffusion_model.time_embed.0.weight", torch.tensor(1.0), ("shape of a single number", "download it again")),
        ("first_stage_model.decoder.conv_in.weight", torch.ones(0, 4, 3, 3), ("shape 0×4×3×3", "download it again")),
        (UNET_IN, torch.ones(8, 4), ("shape 8×4", "download it again")),
    ],
)
def test_a_tensor_that_cannot_be_a_weight_is_told_by_its_name(name, tensor, asked, checkpoints, tmp_path):
    path = _saved(tmp_path / "m.safetensors", load_file(checkpoints["v1"]) | {name: tensor})
    refusal(_fault(path), "MODEL-011", "--pretrained_model_name_or_path m.safetensors", name, *asked)


@pytest.mark.parametrize(
    ("names", "code", "kind"),
    [
        (["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"], "MODEL-017", "LoRA"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "MODEL-017", "LoRA"),
        (["first_stage_model.decoder.conv_in.weight"], "MODEL-017", "--vae"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "MODEL-017", "only a VAE"),
        (["emb_params"], "MODEL-017", "Textual Inversion embedding"),
        (["control_model.input_blocks.0.0.weight"], "MODEL-017", "ControlNet"),
        (["down_blocks.0.resnets.0.conv1.weight"], "MODEL-017", "one part of a Diffusers model"),
        ([UNET_IN, "conditioner.embedders.0.transformer.x"], "MODEL-005", "SDXL"),
        ([UNET_IN, "model.diffusion_model.label_emb.0.0.weight"], "MODEL-005", "SDXL"),
        ([UNET_IN], "MODEL-017", "no text encoder"),
        (["model.diffusion_model.joint_blocks.0.x"], "MODEL-005", "another family"),
        (["double_blocks.0.x"], "MODEL-005", "another family"),
        (["something"], "MODEL-017", "model.diffusion_model"),
    ],
)
def test_other_kinds_of_files_are_recognised(names, code, kind, tmp_path):
    refusal(_fault(_saved(tmp_path / "m.safetensors", {name: torch.zeros(4, 4, 3, 3) for name in names})), code, "m.safetensors", kind)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1000])
def test_a_safetensors_file_cut_short_is_told(keep, checkpoints, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(checkpoints["v1"].read_bytes()[:keep])
    assert _fault(path).code in ("FILE-002", "FILE-005")


@pytest.mark.parametrize("keep", [1000, -1000, 0.5])
def test_a_ckpt_cut_short_is_told(keep, tmp_path):
    path = write_checkpoint(tmp_path / "cut.ckpt")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    assert "truncated" in _fault(path)


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ("FILE-003", "Git LFS pointer", "git lfs pull")),
        (b"<!DOCTYPE html><html>not found</html>", ("FILE-004", "is a web page", "download the file itself")),
        (b"hello, I am no model at all, just text", ("FILE-005", "not a checkpoint")),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json!!!!", ("FILE-005", "header is damaged")),
    ],
)
def test_what_is_no_model_at_all_is_told(content, asked, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(content)
    refusal(_fault(tmp_path / "m.safetensors"), *asked, tmp_path / "m.safetensors")


def test_a_mistyped_path_names_close_files_and_asks_no_hub(tmp_path, monkeypatch):
    import library.model.files.locate as place

    monkeypatch.setattr(place, "_from_hub", lambda *_: pytest.fail("the hub was asked"))
    (tmp_path / "AnythingV3.safetensors").touch()
    (tmp_path / "other.ckpt").touch()
    refusal(_fault(tmp_path / "anything_v3.safetensors"), "MODEL-001", "AnythingV3.safetensors?")
    refusal(_fault(tmp_path / "zzz.safetensors"), "MODEL-001", "AnythingV3.safetensors, other.ckpt")
    refusal(_fault(tmp_path / "nowhere" / "x.safetensors"), "MODEL-001", f"'nowhere' does not exist in {tmp_path}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one").touch()
    refusal(_fault("models/onne"), "MODEL-001", "one?")  # looks like a hub id, but the folder exists
    for name in ("x.safetensors", "owner/x.ckpt", "./owner/name", "just-a-name", "a/b/c", r"C:\models\x"):
        refusal(_fault(name), "MODEL-001", f"'{name}'", "does not exist in")


def test_wrong_folders_are_told_with_what_was_meant(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    refusal(_fault(folder), "MODEL-004", folder, "unet/config.json")
    write_diffusers(folder / "good")
    refusal(_fault(folder), "MODEL-004", folder, folder / "good")
    refusal(_fault(folder / "good" / "vae"), "MODEL-004", "name the folder above it")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.safetensors").touch()
    refusal(_fault(tmp_path / "files"), "MODEL-004", "name one file")


def test_folders_of_other_models_are_refused(folders, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(folders["v1"], folder)
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 5}), encoding="utf-8")
    refusal(_fault(folder), "MODEL-006", "m:", "depth-to-image")
    (folder / "text_encoder_2").mkdir()
    refusal(_fault(folder), "MODEL-005", folder, "SDXL")
    (folder / "unet" / "config.json").write_text("{", encoding="utf-8")
    refusal(_fault(folder), "MODEL-012", folder / "unet" / "config.json", "JSON")
