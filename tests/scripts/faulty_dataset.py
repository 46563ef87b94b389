"""A folder of 100 images with 25 things wrong, one of each kind, and what a dry run has to say of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 100

# (level, how the finding begins or what it holds), in the order of the report; what the remedy holds
EXPECTED = (
    ("error", "--lr_scheduler cosin: is not known", "takes a class"),
    ("error", "--v2 contradicts the weights", "remove --v2"),
    ("error", "caption file {dog}/010.txt is not UTF-8", "save it again with encoding UTF-8"),
    ("error", "1 of 87 images in '{dog}' has neither a .txt file nor class_tokens (011.jpg)", "write <image name>.txt"),
    ("error", "image {dog}/cut.jpg: is truncated", "remove or replace it"),
    ("error", "image {dog}/empty.png: the file is empty", "remove or replace it"),
    ("error", "image {dog}/page.jpg: is not an image", "remove or replace it"),
    ("error", "image {dog}/broken.png: cannot be decoded", "remove or replace it"),
    ("warning", "datasets[0].subsets[3]: ignored, subsets[0] of this dataset already reads the same images", "remove it"),
    ("warning", "1 caption file with an empty first line: 012.txt", "write captions, or delete the files to use class_tokens"),
    ("warning", "files that are not read: 1 .psd", "convert them to .png or .jpg"),
    ("warning", "only the first line of 1 caption file is read: 013.txt", "write the whole caption into one line"),
    (
        "warning",
        "1 of 4 images in '{cups}' will be trained with class_tokens 'a cup', though 1 .caption file is next to them",
        "caption_extension",
    ),
    ("warning", "folders inside '{dog}' are not read: 'more' (1 image)", "make each a separate subset"),
    ("warning", "1 caption file without an image: 099.txt", "give image and caption the same name"),
    ("warning", "1 image in a single colour: flat.png", "remove them"),
    ("warning", "2 images in 1 group trained on and used as regularization images at once: 000.jpg = r00.jpg", "remove them"),
    ("warning", "2 images in 1 group identical, to the last byte: 001.jpg = copy.jpg", "remove the copies"),
    ("warning", "2 images in 1 group the same image in another size, format or quality: 002.jpg = smaller.png", "keep the best one"),
    ("warning", "--max_token_length 75: 1 caption is longer: “tag, tag, tag", "--max_token_length 150 or 225"),
    ("warning", "1 image with a side under 128 px: tiny.png (100×100)", "use larger ones"),
    ("warning", "1 image losing more than 25% when cropped: wide.jpg", "crop these images yourself"),
    ("note", "1 image with a side over 3000 px: huge.jpg (3200×2400)", "smaller copies would load faster"),
    ("note", "1 image rotated upright, as the camera recorded: 003.jpg", "no action needed"),
    ("note", "1 image with transparent parts, which are trained as white: 004.png", "give them another background"),
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
