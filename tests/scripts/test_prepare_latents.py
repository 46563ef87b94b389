"""finetune/prepare_buckets_latents.py as users run it, and fine_tune.py on what it leaves."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import fine_tune
from finetune import prepare_buckets_latents
from library.data.batching.buckets import fill
from library.data.pixels import latent_build
from library.data.pixels.masks import Masks
from library.data.scan.metadata import from_metadata
from library.data.scan.records import scan
from library.model.bundle import moments
from library.model.load import load_vae
from library.training.caches import latents
from tests.data.material import photo
from tests.messages import message, refusal, refusals
from tests.scripts.running import run_in_process, tensors_equal
from tests.scripts.starting import start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, one of them in a folder inside, and their metadata in both forms of keys."""
    images = tmp_path / "pictures"
    for number, size in enumerate(((96, 64), (64, 64), (70, 120))):
        photo(images / f"{number}.png", size, seed=number)
    photo(images / "inside" / "3.jpg", (64, 64), seed=3)
    names = ["0", "1", "2", "inside/3"]
    (tmp_path / "meta.json").write_text(json.dumps({name: {"caption": f"thing {name}", "rest": 1} for name in names}), encoding="utf-8")
    paths = {name: next((images / name).parent.glob(Path(name).name + ".*")) for name in names}
    (tmp_path / "full.json").write_text(json.dumps({str(path): {"tags": name} for name, path in paths.items()}), encoding="utf-8")
    return tmp_path


SIZES = ["--max_resolution", "64,64", "--min_bucket_reso", 32, "--max_bucket_reso", 128, "--bucket_reso_steps", 32]


def prepare(folder: Path, model: Path, *more: object, source: str = "meta.json") -> int:
    place = (folder / "pictures", folder / source, folder / "out.json", model)
    return run_in_process(prepare_buckets_latents.main, *place, *SIZES, *more)


def entries(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def train(folder: Path, model: Path, name: str, **options: object) -> int:
    common = {
        "pretrained_model_name_or_path": model,
        "train_data_dir": folder / "pictures",
        "in_json": folder / "out.json",
        "output_dir": folder / name,
        "max_train_steps": 4,
        "learning_rate": 1e-3,
        "seed": 1,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
    }
    return start(fine_tune.main, **{**common, **options})


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


def test_full_path_and_recursive_choose_the_entries(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1) == 0  # not the folders inside
    assert ["train_resolution" in entry for entry in entries(folder).values()] == [True, True, True, False]
    assert prepare(folder, tiny_v1, "--full_path", "--recursive", source="full.json") == 0
    assert all("train_resolution" in entry for entry in entries(folder).values())
    assert train(folder, tiny_v1, "full", max_train_steps=1, train_data_dir=folder) == 0
    assert prepare(folder, tiny_v1, "--full_path") == 2
    assert "names no image" in capsys.readouterr().err and entries(folder)


def test_skip_existing_makes_what_is_missing_and_what_does_not_fit(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
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


def test_sizes_follow_the_options(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1, "--max_resolution", "128,128", "--bucket_no_upscale") == 0
    assert [entry.get("train_resolution") for entry in entries(folder).values()] == [[96, 64], [64, 64], [64, 96], None]
    assert prepare(folder, tiny_v1, "--max_resolution", "128", "--max_bucket_reso", 96, "--min_bucket_reso", 96) == 2
    assert "max_bucket_reso 96" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "size"),
    [
        (None, None, [32, 96]),
        ("--max_resolution", "128,128", [64, 128]),
        ("--max_bucket_reso", 64, [32, 64]),
        ("--min_bucket_reso", 64, [64, 64]),
        ("--bucket_reso_steps", 16, [48, 80]),
    ],
)
def test_each_option_of_sizes_moves_an_image_to_another_bucket(
    folder: Path, tiny_v1: Path, flag: str | None, value: object, size: list[int]
) -> None:
    """An image of 70 x 120, by the rule of the buckets worked out by hand."""
    assert prepare(folder, tiny_v1, *([flag, value] if flag else [])) == 0
    assert entries(folder)["2"]["train_resolution"] == size
    assert np.load(folder / "pictures" / "2.npz")["latents"].shape == (4, size[1] // 8, size[0] // 8)


@pytest.mark.parametrize(("flags", "batches"), [((), [1, 1, 1, 1]), (("--batch_size", 2), [1, 1, 2]), (("--batch_size", 4), [1, 3])])
def test_the_vae_sees_as_many_images_at_once_as_asked_for(folder: Path, tiny_v1: Path, flags: tuple, batches: list, monkeypatch) -> None:
    """Three of the four images share a bucket."""
    seen = []
    monkeypatch.setattr(latents, "moments", lambda vae, images: seen.append(len(images)) or moments(vae, images))
    assert prepare(folder, tiny_v1, "--recursive", *flags) == 0
    assert sorted(seen) == batches


@pytest.mark.parametrize(("flags", "threads"), [(("--max_data_loader_n_workers", 1), 1), (("--max_data_loader_n_workers", 3), 3), ((), 4)])
def test_as_many_threads_read_images_as_asked_for(folder: Path, tiny_v1: Path, flags: tuple, threads: int, monkeypatch) -> None:
    """Left out: one for each processor but one. Two more write what is done."""
    pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int) -> None:
            pools.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(latent_build, "ThreadPoolExecutor", Pool)
    assert prepare(folder, tiny_v1, *flags) == 0
    assert sorted(pools) == sorted([2, threads])


def test_v2_changes_nothing_since_a_vae_belongs_to_no_version(folder: Path, tiny_v2: Path) -> None:
    def made(*flags: str) -> dict[str, np.ndarray]:
        assert prepare(folder, tiny_v2, *flags) == 0
        return dict(np.load(folder / "pictures" / "0.npz"))

    plain, flagged = made(), made("--v2")
    assert plain.keys() == flagged.keys()
    assert all(np.array_equal(plain[name], flagged[name]) for name in ("latents", "log_variance"))


def test_half_precision_is_close_and_read_by_a_run_in_full_precision(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1, "--recursive") == 0
    exact = np.load(folder / "pictures" / "1.npz")["latents"]
    assert prepare(folder, tiny_v1, "--recursive", "--mixed_precision", "bf16") == 0
    rough = np.load(folder / "pictures" / "1.npz")["latents"]
    assert not np.array_equal(rough, exact) and np.abs(rough - exact).max() < 0.1 * max(1, np.abs(exact).max())
    assert train(folder, tiny_v1, "out", max_train_steps=1) == 0
    message(capsys.readouterr().err, "latents: 4 of 4", "on disk")
    assert prepare(folder, tiny_v1, "--mixed_precision", "fp16") == 2  # a CPU has no fp16


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
