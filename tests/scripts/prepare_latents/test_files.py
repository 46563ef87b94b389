"""finetune/prepare_buckets_latents.py as users run it: the files that it leaves, and fine_tune.py on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from library.data.batching.buckets import fill
from library.data.pixels import latent_files
from library.data.pixels.masks import Masks
from library.data.scan.metadata import from_metadata
from library.data.scan.records import scan
from library.model.bundle import moments
from library.model.load import load_vae
from tests.data.material import photo
from tests.messages import message, refusal, refusals
from tests.scripts.prepare_latents.starting import entries, prepare, train
from tests.scripts.running import tensors_equal


def test_latents_are_written_beside_the_images_and_their_sizes_into_the_metadata(
    folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture
) -> None:
    assert prepare(folder, tiny_v1, "--recursive", "--flip_aug", "--batch_size", 2) == 0
    written = entries(folder)
    assert written["1"] == {"caption": "thing 1", "rest": 1, "train_resolution": [64, 64]} and list(written) == ["0", "1", "2", "inside/3"]
    names = sorted(path.relative_to(folder / "pictures").as_posix() for path in (folder / "pictures").rglob("*.npz"))
    assert names == sorted(f"{name}{ending}.npz" for name in written for ending in ("", "_flip"))
    output = capsys.readouterr().err
    message(output, "64×64: 3 images")
    message(output, "mean difference")

    arrays = np.load(folder / "pictures" / "1.npz")
    width, height = written["1"]["train_resolution"]
    assert arrays["latents"].shape == (4, height // 8, width // 8) and arrays["latents"].dtype == np.float32
    assert arrays["original_size"].tolist() == [64, 64] and arrays["crop_ltrb"].tolist() == [0, 0, 64, 64]
    mirrored = np.load(folder / "pictures" / "1_flip.npz")["latents"]
    assert np.array_equal(mirrored, arrays["latents_flipped"]) and not np.array_equal(mirrored, arrays["latents"])
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(folder / "pictures" / "1.png"))).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = moments(load_vae(tiny_v1, torch.float32), pixels)[0]
    torch.testing.assert_close(torch.from_numpy(arrays["latents"]), expected[:4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(arrays["log_variance"]), expected[4:], rtol=1e-4, atol=1e-4)


def test_fine_tune_trains_from_them_without_images_as_it_would_with_them(
    folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(folder, tiny_v1, "--recursive") == 0
    assert train(folder, tiny_v1, "cached") == 0
    message(capsys.readouterr().err, "latents: 4 of 4", "on disk")
    for path in (folder / "pictures").rglob("*.npz"):
        path.rename(path.with_suffix(".away"))
    assert train(folder, tiny_v1, "decoded", cache_latents=True) == 0
    assert tensors_equal(folder / "cached" / "last.safetensors", folder / "decoded" / "last.safetensors")

    for path in (folder / "pictures").rglob("*.away"):
        path.rename(path.with_suffix(".npz"))
    for path in [*(folder / "pictures").rglob("*.png"), *(folder / "pictures").rglob("*.jpg")]:
        path.unlink()
    assert train(folder, tiny_v1, "gone") == 0
    assert (folder / "gone" / "last.safetensors").is_file()
    capsys.readouterr()
    weights = load_file(tiny_v1)
    name = next(name for name in weights if name.startswith("first_stage_model.encoder."))
    weights[name] = weights[name] + 0.01
    save_file(weights, folder / "other.safetensors")
    assert train(folder, folder / "other.safetensors", "no") == 2
    refusal(capsys.readouterr().err, "DATA-016", folder / "pictures", "another VAE")


def test_mirror_images_are_shown_without_an_option_where_they_were_prepared(folder: Path, tiny_v1: Path) -> None:
    """As the guide says: fine_tune.py needs no option, with and without mirror image are drawn at random."""
    assert prepare(folder, tiny_v1, "--recursive", "--flip_aug") == 0
    assert train(folder, tiny_v1, "flipped") == 0
    for path in (folder / "pictures").rglob("*.npz"):
        path.unlink()
    assert train(folder, tiny_v1, "asked", cache_latents=True, flip_aug=True) == 0
    assert tensors_equal(folder / "flipped" / "last.safetensors", folder / "asked" / "last.safetensors")


def test_only_some_latents_are_told_and_the_images_are_decoded(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1, "--recursive") == 0
    (folder / "pictures" / "0.npz").unlink()
    capsys.readouterr()
    assert train(folder, tiny_v1, "out", max_train_steps=1) == 0
    output = capsys.readouterr().err
    message(output, "latents: 3 of 4", "on disk")
    message(output, "latents", "not used")


def test_skip_existing_makes_what_is_missing_and_what_does_not_fit(
    folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_files, "_FRESH", 10**18)  # images stay new: older ones would have their times added to the latents
    pictures = folder / "pictures"
    assert prepare(folder, tiny_v1) == 0
    times = {path.name: path.stat().st_mtime_ns for path in pictures.glob("*.npz")}
    (pictures / "0.npz").unlink()
    photo(pictures / "1.png", (64, 64), seed=9)
    capsys.readouterr()
    assert prepare(folder, tiny_v1, "--skip_existing") == 0
    message(capsys.readouterr().err, "1 of 3", "encoding 1 again", "1 with a changed image", "encoding 1 new")
    assert (pictures / "2.npz").stat().st_mtime_ns == times["2.npz"] and (pictures / "1.npz").stat().st_mtime_ns != times["1.npz"]
    assert prepare(folder, tiny_v1) == 0
    assert (pictures / "2.npz").stat().st_mtime_ns != times["2.npz"]


def test_a_broken_image_is_told_and_two_of_one_stem_are_told_apart(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    pictures = folder / "pictures"
    (pictures / "0.png").write_bytes(b"no image")
    spoiled = bytearray((pictures / "2.png").read_bytes())
    spoiled[len(spoiled) // 2] ^= 0xFF
    (pictures / "2.png").write_bytes(spoiled)
    shutil.copy(pictures / "inside" / "3.jpg", pictures / "1.jpg")
    assert prepare(folder, tiny_v1) == 1
    output = capsys.readouterr().err
    refusals(
        [line for line in output.splitlines() if line.startswith("error: ")],
        ("DATA-001", f"image {pictures / '0.png'}:"),
        ("DATA-001", f"image {pictures / '2.png'}:"),
        ("TOOL-001", "1 image"),
    )
    message(output, "1 name", "different endings")
    assert ["train_resolution" in entry for entry in entries(folder).values()] == [False, True, False, False]
    assert sorted(path.name for path in pictures.glob("*.npz")) == ["1.jpg.64x64.npz"]


def test_transparency_is_kept_beside_the_latents_and_masks_the_loss_when_the_images_are_gone(folder: Path, tiny_v1: Path) -> None:
    for number in range(3):
        path = folder / "pictures" / f"{number}.png"
        image = Image.open(path).convert("RGBA")
        alpha = np.full((image.height, image.width), 255, dtype=np.uint8)
        alpha[: image.height // 2] = 60 * number
        image.putalpha(Image.fromarray(alpha))
        image.save(path)
    assert prepare(folder, tiny_v1, "--recursive") == 0
    assert "alpha_mask" not in np.load(folder / "pictures" / "1.npz").files
    assert prepare(folder, tiny_v1, "--recursive", "--alpha_mask", "yes") == 0
    mask = np.load(folder / "pictures" / "1.npz")["alpha_mask"]
    assert mask.shape == (64, 64) and mask.dtype == np.float32
    assert mask[:32] == pytest.approx(60 / 255) and mask[32:] == pytest.approx(1)
    shown = masks(folder)
    for number in range(3):
        (folder / "pictures" / f"{number}.png").unlink()
    for one, other in zip(shown, masks(folder), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1 / 255)
    assert float(shown[0].min()) == 0 and float(shown[1].min()) == pytest.approx(60 / 255)
    assert train(folder, tiny_v1, "plain") == 0 and train(folder, tiny_v1, "masked", alpha_mask=True) == 0
    assert not tensors_equal(folder / "plain" / "last.safetensors", folder / "masked" / "last.safetensors")


def masks(folder: Path) -> list[torch.Tensor]:
    """What each image of out.json lets count in the loss."""
    data = fill(scan(from_metadata(folder / "pictures", folder / "out.json", 1, {"alpha_mask": True})))
    return [Masks(data).of([(number, 0)]) for number in range(len(data.records))]


def test_a_name_that_is_too_long_blocks_no_other_image(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    """`.jpg` for `.npz` fits, the name that is written to first has to fit as well; `_flip.npz` does not, and is not needed."""
    fits, too_long = "か" * 83, "n" * 251
    photo(folder / "pictures" / f"{fits}.jpg", (64, 64), seed=4)
    for ending in (".jpg", ".png"):  # of these two the latents would be called n….png.64x64.npz
        photo(folder / "pictures" / f"{too_long}{ending}", (64, 64), seed=5)
    table = entries_of(folder / "meta.json") | {name: {"caption": "long"} for name in (fits, f"{too_long}.png", f"{too_long}.jpg")}
    (folder / "meta.json").write_text(json.dumps(table), encoding="utf-8")
    assert prepare(folder, tiny_v1, "--recursive", "--flip_aug") == 1
    output = capsys.readouterr().err
    lines = [line for line in output.splitlines() if "[SD-PATH-008]" in line]
    assert len(lines) == 2
    message(lines, "latents", "shorter name")
    message(output, f"{fits}.npz")
    written = {name for name, entry in entries(folder).items() if "train_resolution" in entry}
    assert written == {"0", "1", "2", "inside/3", fits} and (folder / "pictures" / f"{fits}.npz").is_file()


def entries_of(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding="utf-8"))
