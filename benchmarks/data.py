"""How fast images are read and cropped beside plain OpenCV and PIL doing the same, how fast a folder is scanned, and what an image weighs.

python benchmarks/data.py --images 60 --files 20000
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from PIL import Image

from benchmarks.results import add_rows, machine
from library.data.batching.buckets import Placement, fill, place
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.pixels.images import load_image
from library.data.scan.records import ImageRecord, scan

END_OF_READINGS, END_OF_SCANS = "<!-- end of readings -->", "<!-- end of scans -->"
# (name, image size, ending, saved with): trained at 512 with buckets
KINDS = (
    ("photograph 3000×2000 .jpg", (3000, 2000), ".jpg", {"quality": 92}),
    ("photograph 1200×800 .jpg", (1200, 800), ".jpg", {"quality": 92}),
    ("picture 768×768 .png", (768, 768), ".png", {}),
    ("picture 400×300 .jpg, enlarged", (400, 300), ".jpg", {"quality": 92}),
)
Load = Callable[[Path, Placement], np.ndarray]


def with_opencv(path: Path, placement: Placement) -> np.ndarray:
    """Decode, scale, crop and turn into float32 [3,H,W] in −1..1 as a loader on OpenCV does; no EXIF, no transparency."""
    pixels = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    grows = placement.resized[0] > pixels.shape[1]
    pixels = cv2.resize(pixels, placement.resized, interpolation=cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA)
    return _cropped(pixels, placement)


def with_pil(path: Path, placement: Placement) -> np.ndarray:
    """The same with PIL alone."""
    with Image.open(path) as image:
        grows = placement.resized[0] > image.width
        small = image.convert("RGB").resize(placement.resized, Image.Resampling.LANCZOS if grows else Image.Resampling.BOX)
    return _cropped(np.asarray(small), placement)


def _cropped(pixels: np.ndarray, placement: Placement) -> np.ndarray:
    left, top = ((whole - side) // 2 for whole, side in zip(placement.resized, placement.bucket, strict=True))
    cut = pixels[top : top + placement.bucket[1], left : left + placement.bucket[0]]
    return np.ascontiguousarray(cut.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1.0


def with_ours(path: Path, placement: Placement) -> np.ndarray:
    """What the training reads."""
    return load_image(ImageRecord(path.parent, path.name, _sizes[path], "", SubsetOptions(), 0, path.name), placement, 1)


_sizes: dict[Path, tuple[int, int]] = {}


def photograph(seed: int, size: tuple[int, int]) -> Image.Image:
    """Soft shapes with fine grain, which compress about as photographs do."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))


def reading(folder: Path, count: int, rounds: int) -> list[tuple[str, float, float, float]]:
    """For each kind of image: images a CPU second of ours, of OpenCV, of PIL; the median of rounds in which the three take turns."""
    cv2.setNumThreads(0)
    rows = []
    for name, size, ending, settings in KINDS:
        paths = [folder / f"{size[0]}-{n}{ending}" for n in range(max(4, count * 800 // size[0]))]
        for n, path in enumerate(paths):
            photograph(n, size).save(path, **settings)
            _sizes[path] = size
        placement = place(size, DatasetOptions((512, 512), enable_bucket=True))
        assert placement is not None
        speeds: dict[Load, list[float]] = {with_ours: [], with_opencv: [], with_pil: []}
        for _ in range(rounds):
            for load, found in speeds.items():
                began = time.process_time()
                for path in paths:
                    load(path, placement)
                found.append(len(paths) / (time.process_time() - began))
        rows.append((name, *(statistics.median(found) for found in speeds.values())))
        for path in paths:
            path.unlink()
    return rows


def scanning(folder: Path, files: int) -> tuple[str, str, float]:
    """The first and the second scan of a folder of so many images with captions, as 'seconds (CPU seconds)'; bytes of memory an image."""
    data = _small_jpeg(folder)
    old = time.time_ns() - 3600 * 10**9
    for n in range(files):
        image, caption = folder / f"image_{n:06}.jpg", folder / f"image_{n:06}.txt"
        image.write_bytes(data)
        caption.write_text(f"a photo of thing {n}, " + "grass, blue sky, from above, " * 3, encoding="utf-8")
        for path in (image, caption):
            os.utime(path, ns=(old, old))
    subset = SubsetOptions(image_dir=folder, caption_extension=".txt", place="benchmark")
    blueprint = DatasetBlueprint((DatasetSpec(DatasetOptions((512, 512), 4, True), (subset,)),))
    seconds = []
    for _ in range(2):
        began = time.perf_counter(), time.process_time()
        fill(scan(blueprint))
        seconds.append(f"{time.perf_counter() - began[0]:.1f} ({time.process_time() - began[1]:.1f})")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    filled = fill(scan(blueprint))
    weight = (tracemalloc.get_traced_memory()[0] - before) / len(filled.records)
    tracemalloc.stop()
    return seconds[0], seconds[1], weight


def _small_jpeg(folder: Path) -> bytes:
    path = folder / "one.jpg"
    photograph(0, (640, 480)).save(path, quality=85)
    data = path.read_bytes()
    path.unlink()
    return data


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure reading, cropping and scanning of images.")
    parser.add_argument("--images", type=int, default=60, help="of about 800 px a side; fewer of larger ones")
    parser.add_argument("--files", type=int, default=20_000, help="images of the folder that is scanned")
    parser.add_argument("--rounds", type=int, default=5, help="in which the three take turns")
    parser.add_argument("--note", default="", help="for the table: what else ran")
    parser.add_argument("--no_record", action="store_true", help="leave benchmarks/RESULTS.md as it is")
    chosen = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="reading-images-"))
    try:
        rows = reading(folder, chosen.images, chosen.rounds)
        first, second, weight = scanning(folder, chosen.files)
    finally:
        shutil.rmtree(folder)
    date = datetime.date.today().isoformat()
    device = machine(chosen.note)
    lines = [
        f"| {date} | {name} | {ours:.1f} | {opencv:.1f} | {pil:.1f} | {ours / opencv:.2f} | {device} |" for name, ours, opencv, pil in rows
    ]
    scanned = f"| {date} | {chosen.files} | {first} | {second} | {weight:.0f} | {device} |"
    print("\n".join([*lines, scanned]))
    if not chosen.no_record:
        add_rows(lines, END_OF_READINGS)
        add_rows([scanned], END_OF_SCANS)


if __name__ == "__main__":
    main()
