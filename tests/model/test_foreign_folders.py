"""Models in less usual forms: weights in several files, variants, a whole CLIP as text encoder, SD 2.1-Turbo's single file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as read
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection

from library.errors import Problem, UserError
from library.model.files.facts import inspect
from library.model.load import load, load_vae
from library.model.save import save_checkpoint
from networks import merge_lora
from tests.messages import refusal
from tests.model.test_load import _same
from tests.scripts.running import run_in_process
from tests.surgery.conftest import write_random


@pytest.fixture
def folder(folders, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["v1"], tmp_path / "model"))


def shard(folder: Path, stem: str, suffix: str = ".safetensors", mark: str = "", pieces: int = 3) -> Path:
    """The part's weights as several files with an index, as Diffusers and transformers name them; returns the index."""
    (whole,) = folder.glob("*.safetensors")
    state = read(whole.read_bytes())  # not mapped, so that the file can go
    whole.unlink()
    names, weight_map = sorted(state), {}
    for piece in range(pieces):
        name = f"{stem}{mark}-{piece + 1:05}-of-{pieces:05}{suffix}"
        part = {tensor: state[tensor].clone() for tensor in names[piece::pieces]}
        weight_map |= dict.fromkeys(part, name)
        torch.save(part, folder / name) if suffix == ".bin" else save_file(part, folder / name)
    index = folder / f"{stem}{suffix}.index{mark}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}), encoding="utf-8")
    return index


@pytest.mark.parametrize(("suffix", "mark"), [(".safetensors", ""), (".safetensors", ".fp16"), (".bin", "")])
def test_weights_in_several_files_give_the_same_model(suffix: str, mark: str, folder: Path, models) -> None:
    shard(folder / "unet", "diffusion_pytorch_model", suffix, mark)
    shard(folder / "text_encoder", "pytorch_model" if suffix == ".bin" else "model", suffix, mark)
    index = shard(folder / "vae", "diffusion_pytorch_model", suffix, mark)
    assert _same(load(folder), models["v1"])
    vae = load_vae(index.parent, torch.float32).state_dict()
    assert all(value.equal(models["v1"].vae.state_dict()[name]) for name, value in vae.items())


def test_diffusers_own_several_files_are_read(folder: Path, models) -> None:
    for part in ("unet", "vae"):
        shutil.rmtree(folder / part)
        getattr(models["v1"], part).save_pretrained(folder / part, max_shard_size="500KB")
        assert len(list((folder / part).glob("*-of-*.safetensors"))) > 1
    assert _same(load(folder), models["v1"])


def test_a_merge_into_weights_in_several_files_leaves_no_index_behind(folder: Path, models, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    shard(folder / "unet", "diffusion_pytorch_model")
    lora = write_random(tmp_path / "l.safetensors", models["v1"].text_encoder, models["v1"].unet, dim=2, alpha=1.0, seed=1)
    assert run_in_process(merge_lora.main, "--sd_model", folder, "--models", lora, "--save_to", tmp_path / "merged") == 0
    assert sorted(path.name for path in (tmp_path / "merged" / "unet").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    place = "mid_block.attentions.0.proj_in.weight"
    theirs = UNet2DConditionModel.from_pretrained(tmp_path / "merged" / "unet")
    ours = load(tmp_path / "merged").unet.state_dict()[place]
    assert ours.equal(theirs.state_dict()[place]) and not ours.equal(models["v1"].unet.state_dict()[place])


def fault(path: Path) -> Problem:
    with pytest.raises(UserError) as error:
        load(path)
    (problem,) = error.value.problems
    return problem


def test_what_is_missing_of_several_files_is_named(folder: Path) -> None:
    index = shard(folder / "unet", "diffusion_pytorch_model")
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    refusal(fault(folder), "MODEL-016", "diffusion_pytorch_model-00002-of-00003.safetensors", "missing")
    index.unlink()
    refusal(fault(folder), "MODEL-004", folder / "unet", "index diffusion_pytorch_model.safetensors.index.json")
    index.write_text("{}", encoding="utf-8")
    refusal(fault(folder), "MODEL-016", "diffusion_pytorch_model.safetensors.index.json", "not an index")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("diffusion_pytorch_model.non_ema.safetensors", ("'non_ema'",)),
        ("diffusion_pytorch_model.non_ema.bin", ("rename that file to diffusion_pytorch_model.bin",)),
        ("diffusion_flax_model.msgpack", ("Flax",)),
        ("model.onnx", ("ONNX Runtime",)),
        (None, ("no weights", "diffusion_pytorch_model.safetensors")),
    ],
)
def test_weights_that_are_not_used_are_named_with_the_remedy(name: str | None, names: tuple[str, ...], folder: Path) -> None:
    (whole,) = (folder / "unet").glob("*.safetensors")
    whole.rename(whole.with_name(name)) if name else whole.unlink()
    refusal(fault(folder), "MODEL-004", folder / "unet", *names)


@pytest.mark.parametrize("whole", [True, False])
def test_a_whole_clip_in_the_text_encoders_folder_gives_its_text_encoder(whole: bool, folder: Path, models) -> None:
    ours = models["v1"].text_encoder
    text = {**ours.config.to_dict(), "projection_dim": 32}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "image_size": 8, "patch_size": 4}
    vision = {**sizes, "num_hidden_layers": 1, "num_attention_heads": 1}
    if whole:
        other = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    else:
        other = CLIPTextModelWithProjection(type(ours.config)(**text))
    other.text_model.load_state_dict(ours.state_dict())
    shutil.rmtree(folder / "text_encoder")
    other.save_pretrained(folder / "text_encoder")
    names = set(load_file(folder / "text_encoder" / "model.safetensors"))
    assert "text_projection.weight" in names and ("logit_scale" in names) == whole
    assert inspect(folder).text_layers == 2
    assert _same(load(folder), models["v1"], ("text_encoder",))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_file_in_the_newer_layout_is_the_same_model_and_keeps_its_names(version: str, checkpoints, models, tmp_path: Path) -> None:
    """As Stability AI's SD 2.1-Turbo has it: the text encoder under SDXL's name, and nothing else of SDXL."""
    state = load_file(checkpoints[version])
    turbo = {name.replace("cond_stage_model.", "conditioner.embedders.0."): value for name, value in state.items()}
    save_file(turbo, tmp_path / "turbo.safetensors")
    facts = inspect(tmp_path / "turbo.safetensors")
    assert (facts.family.name, facts.text_layers) == (version, inspect(checkpoints[version]).text_layers)
    loaded = load(tmp_path / "turbo.safetensors", v2=version == "v2")
    assert _same(loaded, models[version])
    save_checkpoint(loaded, tmp_path / "again.safetensors")
    assert load_file(tmp_path / "again.safetensors").keys() == turbo.keys()


def test_sdxl_in_that_layout_is_still_named(checkpoints, tmp_path: Path) -> None:
    state = {name.replace("cond_stage_model.", "conditioner.embedders.0."): value for name, value in load_file(checkpoints["v1"]).items()}
    for extra in ("conditioner.embedders.1.model.ln_final.weight", "model.diffusion_model.label_emb.0.0.weight"):
        save_file({**state, extra: torch.zeros(4)}, tmp_path / "xl.safetensors")
        refusal(fault(tmp_path / "xl.safetensors"), "MODEL-005", "xl.safetensors", "SDXL")
