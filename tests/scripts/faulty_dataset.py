"""A folder of 100 images with 25 things wrong, one of each kind, and what a dry run has to say of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 100

# (level, names and figures of the finding, words of its remedy), in the order of the report
EXPECTED = (
    ("error", ("--lr_scheduler cosin",), "takes a class"),
    ("error", ("--v2",), "remove --v2"),
    ("error", ("caption file {dog}/010.txt", "UTF-8"), "encoding UTF-8"),
    ("error", ("1 of 87 images", "'{dog}'", "class_tokens", "(011.jpg)"), "<image name>.txt"),
    ("error", ("image {dog}/cut.jpg:", "truncated"), "remove or replace it"),
    ("error", ("image {dog}/empty.png:", "empty"), "remove or replace it"),
    ("error", ("image {dog}/page.jpg:", "not an image"), "remove or replace it"),
    ("error", ("image {dog}/broken.png:", "decoded"), "remove or replace it"),
    ("warning", ("datasets[0].subsets[3]", "subsets[0]", "same images"), "remove it"),
    ("warning", ("1 caption file", "empty", "012.txt"), "class_tokens"),
    ("warning", ("1 .psd",), ".png or .jpg"),
    ("warning", ("1 caption file", "first line", "013.txt"), "one line"),
    ("warning", ("1 of 4 images", "'{cups}'", "class_tokens 'a cup'", "1 .caption file"), "caption_extension"),
    ("warning", ("'{dog}'", "'more' (1 image)"), "separate subset"),
    ("warning", ("1 caption file", "without an image", "099.txt"), "same name"),
    ("warning", ("1 image", "single colour", "flat.png"), "remove them"),
    ("warning", ("2 images", "1 group", "regularization images", "000.jpg = r00.jpg"), "remove them"),
    ("warning", ("2 images", "1 group", "identical", "001.jpg = copy.jpg"), "remove the copies"),
    ("warning", ("2 images", "1 group", "size, format or quality", "002.jpg = smaller.png"), "keep the best one"),
    ("warning", ("--max_token_length 75", "1 caption", "“tag, tag, tag"), "--max_token_length 150 or 225"),
    ("warning", ("1 image", "under 128 px", "tiny.png (100×100)"), "larger ones"),
    ("warning", ("1 image", "25%", "wide.jpg"), "crop"),
    ("note", ("1 image", "over 3000 px", "huge.jpg (3200×2400)"), "smaller copies"),
    ("note", ("1 image", "rotated", "003.jpg"), "no action"),
    ("note", ("1 image", "transparent", "white", "004.png"), "background"),
)

CONFIG = """
[general]
enable_bucket = true
caption_extension = '.txt'
[[datasets]]
resolution = 256
min_bucket_reso = 128
max_bucket_reso = 512
[[datasets.subsets]]
image_dir = '{0}/dog'
[[datasets.subsets]]
image_dir = '{0}/cups'
class_tokens = 'a cup'
[[datasets.subsets]]
image_dir = '{0}/reg'
class_tokens = 'a dog'
is_reg = true
[[datasets.subsets]]
image_dir = '{0}/dog'
"""


def picture(seed: int, size: tuple[int, int] = (256, 256)) -> Image.Image:
    """Soft spots of colour, others for each seed."""
    spots = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)


def write_faulty_dataset(root: Path) -> Path:
    """100 image files below `root` and the config that names their folders, whose path is returned."""
    dog, cups, reg = (root / name for name in ("dog", "cups", "reg"))
    for folder in (dog, cups, reg, dog / "more"):
        folder.mkdir(parents=True)
    odd = _odd_images(dog)
    for n in range(IMAGES - 13 - len(odd) + 1):  # 13 are in other folders
        if n != 4:
            picture(n).save(dog / f"{n:03}.jpg")
    for n in range(4):
        picture(1000 + n).save(cups / f"c{n}.jpg")
    for n in range(1, 8):
        picture(2000 + n).save(reg / f"r{n:02}.jpg")
    (reg / "r00.jpg").write_bytes((dog / "000.jpg").read_bytes())
    _repeat_and_turn(dog)
    for image in dog.iterdir():
        if image.is_file():
            image.with_suffix(".txt").write_text(f"a dog, number {image.stem}", encoding="utf-8")
    _spoil_captions(dog, cups)
    (dog / "layers.psd").write_bytes(b"8BPS")
    picture(3000).save(dog / "more" / "deep.jpg")
    config = root / "faulty.toml"
    config.write_text(CONFIG.format(root.as_posix()), encoding="utf-8")
    return config


def _odd_images(dog: Path) -> list[Path]:
    names = "empty.png page.jpg cut.jpg broken.png tiny.png flat.png wide.jpg huge.jpg copy.jpg smaller.png 004.png".split()
    paths = {name: dog / name for name in names}
    paths["empty.png"].write_bytes(b"")
    paths["page.jpg"].write_bytes(b"<!doctype html><title>Not found</title>")
    picture(100).save(paths["cut.jpg"], quality=95)
    data = paths["cut.jpg"].read_bytes()
    paths["cut.jpg"].write_bytes(data[: len(data) // 2])
    noise = np.random.default_rng(7).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(paths["broken.png"])
    bytes_ = bytearray(paths["broken.png"].read_bytes())
    bytes_[len(bytes_) // 2] ^= 0xFF
    paths["broken.png"].write_bytes(bytes(bytes_))
    picture(101, (100, 100)).save(paths["tiny.png"])
    Image.new("RGB", (256, 256), (40, 90, 160)).save(paths["flat.png"])
    picture(102, (1600, 200)).save(paths["wide.jpg"])
    picture(103, (3200, 2400)).save(paths["huge.jpg"])
    clear = picture(104).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 60, 60))
    clear.save(paths["004.png"])
    return list(paths.values())


def _repeat_and_turn(dog: Path) -> None:
    (dog / "copy.jpg").write_bytes((dog / "001.jpg").read_bytes())
    picture(2).resize((200, 200)).save(dog / "smaller.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3).save(dog / "003.jpg", exif=exif)


def _spoil_captions(dog: Path, cups: Path) -> None:
    (dog / "010.txt").write_bytes("ein Hündchen".encode("latin-1"))
    (dog / "011.txt").unlink()
    (dog / "012.txt").write_text("\n", encoding="utf-8")
    (dog / "013.txt").write_text("a dog\nin the grass", encoding="utf-8")
    (dog / "014.txt").write_text("tag, " * 60, encoding="utf-8")
    (dog / "099.txt").write_text("a dog", encoding="utf-8")
    for n in range(3):
        (cups / f"c{n}.txt").write_text(f"a cup, number {n}", encoding="utf-8")
    (cups / "c3.caption").write_text("a cup", encoding="utf-8")
