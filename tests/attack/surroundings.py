"""A folder with a sound file of every kind that a script or tool reads, and a sound command for each of them."""

from __future__ import annotations

import json
from pathlib import Path

PAIRS = ("state", "diffusers")  # folders of several files each
MODEL = ("--pretrained_model_name_or_path", "model.safetensors")
QUICK = ("--output_dir", "out", "--max_train_steps", "1", "--max_data_loader_n_workers", "0")
CONFIG = ("--dataset_config", "data.toml")
FOLDERS = ("--train_data_dir", "images", "--resolution", "64")
METADATA = ("--train_data_dir", "images/2_shs dog", "--in_json", "meta.json", "--resolution", "64")
LORA = ("--network_module", "networks.lora", "--network_dim", "2")
MERGED = ("images/2_shs dog", "new.json")
DRAWN = ("--ckpt", "model.safetensors", "--outdir", "out", "--W", "64", "--H", "64", "--steps", "1")
COMPARED = (*DRAWN, "--networks", "lora.safetensors", "other.safetensors")
WORD = ("--token_string", "shs", "--init_word", "dog")

# script or tool -> sound commands, the first of which is used most
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "train_network.py": (
        (*MODEL, *QUICK, *LORA, *CONFIG), (*MODEL, *QUICK, *LORA, *FOLDERS), (*MODEL, *QUICK, *LORA, *METADATA),
        (*MODEL, *QUICK, *LORA, "--network_module", "networks.dora", "--network_args", "network_reg_dims=attn2=4", "rs_lora=True", *CONFIG),
        (*MODEL, *QUICK, *LORA, "--network_args", "init=pissa", *CONFIG)),
    "train_db.py": ((*MODEL, *QUICK, *CONFIG), (*MODEL, *QUICK, *FOLDERS)),
    "fine_tune.py": ((*MODEL, *QUICK, *METADATA), (*MODEL, *QUICK, *CONFIG)),
    "train_textual_inversion.py": ((*MODEL, *QUICK, *WORD, *CONFIG), (*MODEL, *QUICK, *WORD, *FOLDERS, "--use_object_template")),
    "train_textual_inversion_XTI.py": ((*MODEL, *QUICK, *WORD, *CONFIG),),
    "finetune/make_captions.py": (("images/2_shs dog", "--caption_weights", "diffusers"),),
    "finetune/make_captions_by_git.py": (("images/2_shs dog", "--model_id", "diffusers"),),
    "finetune/tag_images_by_wd14_tagger.py": (("images/2_shs dog", "--model_dir", "tagger"),),
    "finetune/merge_captions_to_metadata.py": (MERGED, (*MERGED, "--in_json", "meta.json")),
    "finetune/merge_dd_tags_to_metadata.py": (MERGED, (*MERGED, "--in_json", "meta.json")),
    "finetune/clean_captions_and_tags.py": (("meta.json", "new.json"),),
    "tools/resize_images_to_resolution.py": (("images/2_shs dog", "small", "--max_resolution", "64x64"),),
    "finetune/prepare_buckets_latents.py": (
        ("images/2_shs dog", "meta.json", "new.json", "model.safetensors", "--max_resolution", "64,64"),
    ),
    "tools/cache_latents.py": ((*MODEL, *CONFIG),),
    "networks/merge_lora.py": (
        ("--models", "lora.safetensors", "other.safetensors", "--save_to", "new.safetensors"),
        ("--sd_model", "model.safetensors", "--models", "lora.safetensors", "--save_to", "new.safetensors"),
    ),
    "networks/svd_merge_lora.py": (("--models", "lora.safetensors", "other.safetensors", "--save_to", "new.safetensors"),),
    "networks/resize_lora.py": (("--model", "lora.safetensors", "--save_to", "new.safetensors", "--new_rank", "1"),),
    "networks/extract_lora_from_models.py": (
        ("--model_org", "model.safetensors", "--model_tuned", "tuned.safetensors", "--save_to", "new.safetensors"),
    ),
    "networks/extract_lora_from_dylora.py": (("--model", "lora.safetensors", "--save_to", "new.safetensors", "--unit", "1"),),
    "networks/check_lora_weights.py": (("lora.safetensors",),),
    "tools/convert_diffusers20_original_sd.py": (
        ("model.safetensors", "new.ckpt"), ("model.ckpt", "new.safetensors"),
        ("diffusers", "new.safetensors"), ("model.safetensors", "folder"),
    ),
    "tools/show_metadata.py": (("--model", "lora.safetensors"),),
    "tools/edit_metadata.py": (
        ("--model", "lora.safetensors", "--set", "a=b"), ("--model", "lora.safetensors", "--from_json", "notes.json"),
    ),
    "gen_img.py": (
        (*DRAWN, "--prompt", "a dog --d 1"),
        (*DRAWN, "--from_file", "prompts.txt", "--network_weights", "lora.safetensors"),
        (*DRAWN, "--prompt", "a dog", "--image_path", "images/2_shs dog/0.png", "--mask_path", "masks/0.png"),
    ),
    "tools/compare_networks.py": (
        (*COMPARED, "--prompt", "a dog"),
        (*COMPARED, "--from_file", "prompts.txt", "--images", "images/2_shs dog", "--resolution", "64"),
        (*COMPARED, "--prompt", "a dog", "--dataset_config", "data.toml"),
    ),
    "tools/doctor.py": (("--", "train_network.py", *MODEL, *LORA, *CONFIG, "--output_dir", "out"),),
    "tools/config_from_run.py": (("run.json", "new.toml"), ("lora.safetensors", "new.toml")),
}  # fmt: skip

# (script, what is added to its sound command, the files of which one is spoilt)
READERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("train_network.py", (), ("model.safetensors", "data.toml", "images/2_shs dog/0.png", "images/2_shs dog/0.caption")),
    ("train_network.py", ("--pretrained_model_name_or_path", "model.ckpt"), ("model.ckpt",)),
    ("train_network.py", ("--pretrained_model_name_or_path", "diffusers"), ("diffusers/*",)),
    ("train_network.py", ("--vae", "vae.safetensors"), ("vae.safetensors",)),
    ("train_network.py", ("--vae", "model.ckpt"), ("model.ckpt",)),
    ("train_network.py", ("--network_weights", "lora.safetensors"), ("lora.safetensors",)),
    ("train_network.py", ("--network_weights", "lora.pt"), ("lora.pt",)),
    ("train_network.py", ("--base_weights", "lora.safetensors"), ("lora.safetensors",)),
    ("train_network.py", ("--resume", "state"), ("state/*",)),
    ("train_network.py", ("--resume", "state", "--max_train_steps", "2", "--image_ledger"), ("state/*",)),
    ("train_network.py", ("--config_file", "options.toml"), ("options.toml",)),
    ("train_network.py", ("--config_file", "front_end.toml"), ("front_end.toml",)),
    ("train_network.py", ("--dataset_config", "data.json"), ("data.json",)),
    ("train_network.py", ("--dataset_config", "masked.toml", "--masked_loss"), ("masks/0.png", "masked.toml")),
    ("train_network.py", ("--dataset_config", "metadata.toml"), ("meta.json", "metadata.toml")),
    ("train_network.py", ("--cache_latents_to_disk",), ("images/2_shs dog/*.npz", "images/2_shs dog/*")),
    ("train_network.py", ("--sample_prompts", "prompts.txt", "--sample_at_first", "--dry_run"), ("prompts.txt",)),
    ("train_network.py", ("--sample_prompts", "prompts.toml", "--sample_at_first", "--dry_run"), ("prompts.toml",)),
    ("train_network.py", ("--sample_prompts", "prompts.json", "--sample_at_first", "--dry_run"), ("prompts.json",)),
    ("train_network.py", ("--log_tracker_config", "tracker.toml", "--logging_dir", "log"), ("tracker.toml",)),
    ("train_network.py", ("--metadata_thumbnail", "images/2_shs dog/0.png"), ("images/2_shs dog/0.png",)),
    ("train_db.py", (), ("data.toml", "model.safetensors")),
    ("fine_tune.py", (), ("meta.json", "images/2_shs dog/1.png")),
    ("train_textual_inversion.py", ("--weights", "word.safetensors"), ("word.safetensors",)),
    ("train_textual_inversion.py", ("--weights", "word.pt"), ("word.pt",)),
    ("train_textual_inversion.py", ("--weights", "word.png"), ("word.png",)),
    ("train_textual_inversion_XTI.py", (), ("data.toml",)),
    ("finetune/make_captions.py", (), ("diffusers/*", "images/2_shs dog/0.png")),
    ("finetune/make_captions_by_git.py", (), ("diffusers/*",)),
    ("finetune/tag_images_by_wd14_tagger.py", (), ("tagger/*",)),
    ("finetune/merge_captions_to_metadata.py", ("--in_json", "meta.json"), ("meta.json", "images/2_shs dog/0.caption")),
    ("finetune/merge_dd_tags_to_metadata.py", ("--in_json", "meta.json"), ("meta.json", "images/2_shs dog/0.txt")),
    ("finetune/clean_captions_and_tags.py", (), ("meta.json",)),
    ("finetune/clean_captions_and_tags.py", ("--rules", "rules.toml"), ("rules.toml",)),
    ("tools/resize_images_to_resolution.py", (), ("images/2_shs dog/0.png",)),
    ("finetune/prepare_buckets_latents.py", (), ("meta.json", "model.safetensors", "images/2_shs dog/0.png")),
    ("tools/cache_latents.py", (), ("data.toml", "model.safetensors", "images/2_shs dog/0.png")),
    ("networks/merge_lora.py", (), ("lora.safetensors",)),
    ("networks/merge_lora.py", ("--sd_model", "model.safetensors"), ("lora.safetensors", "model.safetensors")),
    ("networks/merge_lora.py", ("--models", "lora.pt", "other.safetensors"), ("lora.pt",)),
    ("networks/svd_merge_lora.py", (), ("lora.safetensors",)),
    ("networks/resize_lora.py", (), ("lora.safetensors",)),
    ("networks/extract_lora_from_models.py", (), ("model.safetensors", "tuned.safetensors")),
    ("networks/extract_lora_from_models.py", ("--model_org", "diffusers"), ("diffusers/*",)),
    ("networks/extract_lora_from_dylora.py", (), ("lora.safetensors",)),
    ("networks/check_lora_weights.py", (), ("lora.safetensors",)),
    ("tools/convert_diffusers20_original_sd.py", (), ("model.safetensors",)),
    ("tools/convert_diffusers20_original_sd.py", ("--reference_model", "diffusers"), ("diffusers/scheduler/*",)),
    ("tools/show_metadata.py", (), ("lora.safetensors",)),
    ("tools/edit_metadata.py", ("--from_json", "notes.json"), ("notes.json", "lora.safetensors")),
    ("tools/config_from_run.py", (), ("run.json",)),
    ("gen_img.py", (), ("model.safetensors",)),
    ("tools/compare_networks.py", (), ("lora.safetensors",)),
    ("tools/compare_networks.py", ("--dataset_config", "data.toml"), ("data.toml", "images/2_shs dog/0.png")),
    ("gen_img.py", ("--network_weights", "lora.safetensors"), ("lora.safetensors",)),
    ("gen_img.py", ("--textual_inversion_embeddings", "word.safetensors"), ("word.safetensors",)),
    ("gen_img.py", ("--image_path", "images/2_shs dog/0.png"), ("images/2_shs dog/0.png",)),
)

DATA = """\
[general]
caption_extension = '.caption'
shuffle_caption = true

[[datasets]]
resolution = 64
batch_size = 1
{datasets}
[[datasets.subsets]]
image_dir = 'images/2_shs dog'
class_tokens = 'shs dog'
num_repeats = 2
{subsets}
"""
PROMPTS = {
    "prompts.txt": "a dog --w 64 --h 64 --s 1 --d 1 --l 7.5 --ss euler\n# a remark\na cat --n bad --w 64 --h 64 --s 1\n",
    "prompts.toml": "[prompt]\nwidth = 64\nheight = 64\nsample_steps = 1\n[[prompt.subset]]\nprompt = 'a dog'\nseed = 1\nscale = 7.5\n",
    "prompts.json": '[{"prompt": "a dog", "width": 64, "height": 64, "sample_steps": 1, "seed": 3}, "a cat --w 64 --h 64 --s 1"]',
}
OPTIONS = "[training]\nseed = 3\nlearning_rate = 1e-4\nmax_grad_norm = 1.0\n[saving]\noutput_name = 'x'\nsave_every_n_steps = 1\n"
FRONT_END = (
    'bucket_no_upscale = true\nclip_skip = 1\nlr_warmup_steps = 0.1\nvae = ""\noptimizer_args = []\nnoise_offset_type = "Original"\n'
)
RULES = "[captions]\nreplace = [['a', 'b']]\n"


def make(root: Path) -> None:
    """Fill the empty folder `root`, which is also the working folder."""
    import numpy as np
    import torch
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    from safetensors.torch import load_file, save_file

    from tests.scripts.running import run_in_process
    from tests.small_models import write_checkpoint, write_diffusers

    images = root / "images" / "2_shs dog"
    for folder in (images, root / "masks", root / "tagger", root / "home"):
        folder.mkdir(parents=True)
    for number in range(2):
        Image.effect_noise((96, 80), 60 + number).convert("RGB").save(images / f"{number}.png")
        Image.new("L", (96, 80), 255).save(root / "masks" / f"{number}.png")
        for ending in (".txt", ".caption"):
            (images / f"{number}{ending}").write_text("shs dog, a photo", encoding="utf-8")
    entries = {f"{n}.png": {"caption": "shs dog", "tags": "dog, photo", "train_resolution": [64, 64]} for n in range(2)}
    data = DATA.format(datasets="", subsets="")
    subset = {"image_dir": "images/2_shs dog", "class_tokens": "shs dog"}
    texts = PROMPTS | {
        "meta.json": json.dumps(entries),
        "data.toml": data,
        "data.json": json.dumps({"datasets": [{"resolution": 64, "subsets": [subset]}]}),
        "masked.toml": DATA.format(datasets="", subsets="conditioning_data_dir = 'masks'"),
        "metadata.toml": DATA.format(datasets="", subsets="metadata_file = 'meta.json'").replace("class_tokens = 'shs dog'\n", ""),
        "options.toml": OPTIONS, "front_end.toml": FRONT_END, "rules.toml": RULES,
        "tracker.toml": "[wandb]\nname = 'x'\n[tensorboard]\nflush_secs = 10\n",
        "notes.json": json.dumps({"a": "b", "c": {"d": [1, 2]}}),
        "tagger/tag_mapping.json": json.dumps({"0": {"tag": "dog", "category": "General"}}),
        "tagger/selected_tags.csv": "tag_id,name,category,count\n1,dog,0,5\n",
        "tagger/model.onnx": "no model",
    }  # fmt: skip
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    write_checkpoint(root / "model.safetensors")
    write_checkpoint(root / "tuned.safetensors", seed=1)
    write_checkpoint(root / "model.ckpt")
    write_diffusers(root / "diffusers")
    vae = {name: tensor for name, tensor in load_file(root / "model.safetensors").items() if name.startswith("first_stage_model.")}
    save_file({name.removeprefix("first_stage_model."): tensor for name, tensor in vae.items()}, root / "vae.safetensors")
    vectors = torch.zeros(1, 32)
    save_file({"emb_params": vectors}, root / "word.safetensors")
    torch.save({"string_to_param": {"*": vectors}, "name": "x"}, root / "word.pt")
    info = PngInfo()
    info.add_text("sd-ti-embedding", "e30=")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(root / "word.png", pnginfo=info)
    _train(root, run_in_process)
    torch.save(load_file(root / "lora.safetensors"), root / "lora.pt")


def _train(root: Path, start: object) -> None:
    """A LoRA, another one, a saved state, a manifest and cached latents, out of a run."""
    import shutil

    import train_network

    assert callable(start)
    command = (*COMMANDS["train_network.py"][0], "--save_state", "--image_ledger", "--cache_latents_to_disk", "--seed", "1")
    assert start(train_network.main, *command) == 0
    out = root / "out"
    shutil.copy(out / "last.safetensors", root / "lora.safetensors")
    shutil.copy(out / "last.safetensors", root / "other.safetensors")
    shutil.copy(next(out.glob("*.run.json")), root / "run.json")
    next(path for path in out.iterdir() if path.is_dir() and path.name.endswith("-state")).rename(root / "state")
    shutil.rmtree(out)
