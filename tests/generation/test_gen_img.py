"""gen_img.py as a user starts it: what each option does, and what its files record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gen_img
from library.generation.words import unknown_words
from library.model.load import load
from library.model.new_words import cross_attentions
from tests.generation.drawing import Draw, facts, refused, same, texts
from tests.generation.test_same_as_samples import pixels
from tests.messages import refusal
from tests.scripts.running import run_in_process
from tests.small_models import write_checkpoint, write_diffusers


def test_seeds_follow_from_the_place_of_a_picture(draw: Draw) -> None:
    many = draw("--prompt", "a cat", "--seed", 5, "--n_iter", 2, "--images_per_prompt", 2)
    assert [texts(path)["parameters"].split("Seed: ")[1].split(",")[0] for path in many] == ["5", "6", "7", "8"]
    assert same(draw("--prompt", "a cat --d 7")[0], many[2]) and not same(many[0], many[1])
    with_d = draw("--prompt", "a cat --d 7", "--seed", 5, "--images_per_prompt", 2)
    assert same(with_d[0], many[2]) and same(with_d[1], many[3])


def test_a_pass_has_one_seed_where_that_is_asked_for(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a cat\na cat\n", encoding="utf-8")
    images = draw("--from_file", tmp_path / "two.txt", "--seed", 5, "--iter_same_seed", "--n_iter", 2)
    assert same(images[0], images[1]) and same(images[2], images[3]) and not same(images[0], images[2])
    assert [path.stem.split("_")[-1] for path in images] == ["5", "5", "6", "6"]


def test_pictures_of_one_batch_are_those_of_batches_of_one(draw: Draw, tmp_path: Path) -> None:
    lines = [
        "a cat --d 1",
        "a dog --d 2",
        "a bird --d 3 --w 72",
        "words, " * 60 + "--d 4",
        "a fish --d 5 --ss euler_a",
        "a hen --d 6 --ss euler_a",
    ]
    (tmp_path / "p.txt").write_text("\n".join(lines), encoding="utf-8")
    alone, together = (draw("--from_file", tmp_path / "p.txt", "--batch_size", size) for size in (1, 4))
    assert [np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(alone, together, strict=True)] == [True] * len(lines)
    assert Image.open(together[2]).size == (72, 64)


def test_options_of_a_prompt_win_over_those_of_the_command(draw: Draw) -> None:
    own = draw("--prompt", "a cat --n bad --w 72 --h 80 --d 3 --l 3 --s 3 --ss euler")[0]
    said = texts(own)["parameters"].splitlines()
    assert said == ["a cat", "Negative prompt: bad", "Steps: 3, Sampler: euler, CFG scale: 3, Seed: 3, Size: 72x80, Model: tiny_v1"]
    command = draw("--prompt", "a cat --n bad --d 3", "--W", 72, "--H", 80, "--scale", 3, "--steps", 3, "--sampler", "euler")[0]
    assert same(own, command)


def test_strengths_scale_what_a_network_adds(draw: Draw, lora: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    tensors = {name: tensor * (0.5 if ".lora_up." in name else 1) for name, tensor in load_file(lora).items()}
    save_file(tensors, half, {"ss_network_module": "networks.lora"})
    prompt = ("--prompt", "a cat --d 1")
    full, weak = draw(*prompt, "--network_weights", lora), draw(*prompt, "--network_weights", lora, "--network_mul", 0.5)
    assert same(weak[0], draw(*prompt, "--network_weights", half)[0]) and not same(weak[0], full[0])
    assert same(draw(*prompt)[0], draw(*prompt, "--network_weights", lora, "--network_mul", 0)[0])
    assert same(weak[0], draw("--prompt", "a cat --d 1 --am 0.5", "--network_weights", lora, "--network_mul", 3)[0])


def test_networks_add_up_and_each_prompt_has_its_own_strengths(draw: Draw, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(
        "a cat --d 1 --am 0.5,0.5\na cat --d 1 --am 1,0\na cat --d 1\na cat --d 1 --am 0,-1\n", encoding="utf-8"
    )
    modules = ("--network_module", "networks.lora", "--network_args", "conv_dim=2;conv_alpha=1", "--network_mul", 0.25, 0.75)
    both = draw("--from_file", tmp_path / "p.txt", "--network_weights", lora, lora, *modules)
    once = draw("--prompt", "a cat --d 1", "--network_weights", lora)[0]
    assert [np.abs(pixels(path) - pixels(once)).max() <= 1 for path in both] == [True, True, True, False]
    assert [one["strength"] for one in facts(both[2])["networks"]] == [0.25, 0.75]  # type: ignore[union-attr, index]


def test_what_the_module_is_told_and_which_it_is_stands_on_the_command_line(draw: Draw, lora: Path, capsys, tmp_path: Path) -> None:
    pytest.importorskip("lycoris.kohya")
    theirs = draw("--prompt", "a cat --d 1", "--network_weights", lora, "--network_module", "lycoris.kohya")[0]
    assert np.abs(pixels(theirs) - pixels(draw("--prompt", "a cat --d 1", "--network_weights", lora)[0])).max() <= 1
    assert facts(theirs)["networks"][0]["module"] == "lycoris.kohya"  # type: ignore[index]


def test_words_are_file_names_and_several_kinds_go_together(draw: Draw, tiny_v1: Path, tmp_path: Path) -> None:
    layers = cross_attentions(load(tiny_v1).unet)
    torch.manual_seed(0)
    plain, by_layer = torch.randn(2, 64), torch.randn(1, 64)
    save_file({"emb_params": plain}, tmp_path / "zxq.safetensors")
    save_file({name: by_layer.clone() for name in layers}, tmp_path / "other.safetensors", {"ss_token_string": "<blob>"})
    torch.save({"string_to_param": {"*": by_layer}, "name": "x"}, tmp_path / "vfw.pt")
    ti = ("--textual_inversion_embeddings", tmp_path / "zxq.safetensors", tmp_path / "vfw.pt")
    xti = ("--XTI_embeddings", tmp_path / "other.safetensors")
    prompt = "a ZXQ and (<blob>:1.3), {} --d 1"
    both = draw("--prompt", prompt.format("zxq"), *ti, *xti)[0]
    assert not same(both, draw("--prompt", prompt.format("zxq"))[0])
    # an XTI of equal layers is a Textual Inversion
    assert same(draw("--prompt", "a <blob> --d 1", *xti)[0], draw("--prompt", "a vfw --d 1", *ti)[0])
    assert facts(both)["embeddings"] == ["zxq.safetensors", "vfw.pt", "other.safetensors"]


def test_words_that_no_file_has_are_told_once_with_those_that_are_known(draw: Draw, tmp_path: Path, heard) -> None:
    save_file({"emb_params": torch.randn(1, 64)}, tmp_path / "<zxq>.safetensors")
    draw("--prompt", "a <zxq> and a <ZXQ> --n 1 < 2", "--textual_inversion_embeddings", tmp_path / "<zxq>.safetensors")
    assert "plain text" not in heard.text
    draw("--prompt", "a <zqx> <zqx>", "--images_per_prompt", 2, "--textual_inversion_embeddings", tmp_path / "<zxq>.safetensors")
    (line,) = [line for line in heard.warnings if "plain text" in line]
    assert "<zqx> is read as plain text" in line and "known are <zxq>" in line


def test_a_lora_named_in_a_prompt_is_told_where_to_go() -> None:
    line = unknown_words(["a cat <lora:dog:1>"], [])
    assert line is not None and "<lora:dog:1> is read as plain text" in line and line.endswith("name its file with --network_weights")


def test_long_prompts_are_read_as_far_as_is_asked_for(draw: Draw) -> None:
    long = ("--prompt", f"{'word ' * 74} a cat {'word ' * 80} a dog --d 1")
    windows = {count: draw(*long, "--max_embeddings_multiples", count)[0] for count in (1, 2, 3)}
    assert len({pixels(path).tobytes() for path in windows.values()}) == 3
    assert same(draw(*long)[0], windows[3])
    assert same(windows[1], draw("--prompt", f"{'word ' * 74} a --d 1")[0])


def test_clip_skip_and_another_vae_act_and_are_told(draw: Draw, tiny_v1: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.safetensors", seed=3)
    plain, skipped = draw("--prompt", "a cat --d 1")[0], draw("--prompt", "a cat --d 1", "--clip_skip", 2)[0]
    changed = draw("--prompt", "a cat --d 1", "--vae", other)[0]
    assert not same(plain, skipped) and not same(plain, changed)
    assert texts(skipped)["parameters"].endswith("Clip skip: 2") and texts(changed)["parameters"].endswith("VAE: other.safetensors")


def test_all_forms_of_a_model_draw_the_same(draw: Draw, tmp_path: Path) -> None:
    forms = [write_checkpoint(tmp_path / "m.safetensors"), write_checkpoint(tmp_path / "m.ckpt"), write_diffusers(tmp_path / "folder")]
    drawn = [draw("--prompt", "a cat --d 1", "--tokenizer_cache_dir", tmp_path / "tokens", ckpt=form)[0] for form in forms]
    assert all(np.abs(pixels(drawn[0]) - pixels(path)).max() <= 1 for path in drawn[1:])
    assert any((tmp_path / "tokens").iterdir())


def test_models_of_the_second_family_draw_with_their_flags(draw: Draw, tiny_v2: Path, capsys) -> None:
    v = draw("--prompt", "a cat --d 1", "--v2", "--v_parameterization", ckpt=tiny_v2)[0]
    zero = draw("--prompt", "a cat --d 1", "--v2", "--v_parameterization", "--zero_terminal_snr", ckpt=tiny_v2)[0]
    assert not same(v, zero) and facts(zero)["zero_terminal_snr"] and (facts(v)["family"], facts(v)["prediction"]) == ("v2", "v_prediction")
    assert "--v2 is missing" in refused(capsys, "--ckpt", tiny_v2, "--prompt", "a")


def test_half_precision_is_used_and_the_vae_can_be_left_out_of_it(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, tiny_v1: Path, capsys
) -> None:
    import library.model.drawing.generate as drawing

    seen = []
    decode = drawing.decode
    monkeypatch.setattr(drawing, "decode", lambda model, *more: seen.append((model.unet.dtype, model.vae.dtype)) or decode(model, *more))
    half = draw("--prompt", "a cat --d 1", "--bf16", "--sdpa")[0]
    draw("--prompt", "a cat --d 1", "--bf16", "--no_half_vae", "--device", "cpu")
    draw("--prompt", "a cat --d 1", "--xformers")  # of which it says that it is not here
    assert seen == [(torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.float32, torch.float32)]
    assert facts(half)["precision"] == "bfloat16"
    refusal(refused(capsys, "--ckpt", tiny_v1, "--prompt", "a", "--fp16"), "OPT-018", "--fp16", "CPU")


def test_each_prompt_takes_the_next_image_and_the_size_of_the_image(draw: Draw, tmp_path: Path) -> None:
    for name, size in (("a", (100, 64)), ("b", (64, 88))):
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / f"{name}.png")
        Image.new("L", size, 255).save(tmp_path / f"{name}_mask.png")
    (tmp_path / "p.txt").write_text("a cat --d 1\na cat --d 1\na cat --d 1 --t 0.2\na cat --d 1 --w 64 --h 64\n", encoding="utf-8")
    images = ("--image_path", tmp_path / "a.png", tmp_path / "b.png", "--strength", 0.5)
    folder = tmp_path / "out"
    argv = ("--outdir", folder, "--from_file", tmp_path / "p.txt", "--steps", 6, "--sequential_file_name", *images)
    masks = ("--mask_path", tmp_path / "a_mask.png", tmp_path / "b_mask.png")
    model = write_checkpoint(tmp_path / "model.safetensors")
    assert run_in_process(gen_img.main, "--ckpt", model, *argv) == 0
    assert run_in_process(gen_img.main, "--pretrained_model_name_or_path", model, *argv, *masks) == 0
    drawn = sorted(folder.iterdir())
    assert [path.name for path in drawn] == [f"im_{number:06d}.png" for number in range(1, 9)]
    assert [Image.open(path).size for path in drawn[:4]] == [(96, 64), (64, 88), (96, 64), (64, 64)]
    noise = pixels(tmp_path / "a.png")[:, :96]
    assert np.abs(pixels(drawn[2]) - noise).mean() != np.abs(pixels(drawn[0]) - noise).mean()
    # all white: the whole image is generated again
    assert all(np.abs(pixels(one) - pixels(other)).max() <= 1 for one, other in zip(drawn[:4], drawn[4:], strict=True))
    assert (facts(drawn[5])["image"], facts(drawn[5])["mask"], facts(drawn[6])["strength"]) == ("b.png", "b_mask.png", 0.2)
    assert "Denoising strength: 0.5" in texts(drawn[0])["parameters"]


def test_the_file_tells_web_uis_and_us_how_it_was_made(draw: Draw, lora: Path) -> None:
    path = draw("--prompt", "a (cat:1.2), grün --d 1", "--network_weights", lora)[0]
    said, network = texts(path)["parameters"], facts(path)["networks"][0]  # type: ignore[index]
    assert said.splitlines()[0] == "a (cat:1.2), grün"
    assert said.endswith(f'Lora hashes: "dog: {network["sha256"][:12]}"')
    assert network["file"] == "dog.safetensors" and facts(path)["model"] == "tiny_v1.safetensors"
    with safe_open(lora, "pt") as file:
        assert network["sha256"] == file.metadata()["sshs_model_hash"]
