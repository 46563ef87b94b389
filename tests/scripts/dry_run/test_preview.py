"""What a run will see, shown before it: the report's page, --debug_dataset with and without a screen, crops in their places."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.inspection.draw_preview import Draws
from library.training.report import preview, report_page
from tests.scripts.dry_run.starting import BUCKETS, SUBSET, described, dry


def test_page_shows_crops_and_captions_of_every_bucket_and_lets_nothing_through(
    images: Path, tmp_path: Path, tiny_v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "0.txt").write_text("my-word <script>alert('x')</script> & \"more\", grass", encoding="utf-8")
    page = tmp_path / "pages" / "report.html"
    assert dry(described(tmp_path, images), tiny_v1, tmp_path / "out", report_html=page) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<img src=") == text.count("data:image/jpeg;base64,") == 6 and text.count("<figure>") == 6
    for bucket in ("96×160", "128×128", "160×96"):
        assert f"<summary><b>{bucket}</b> 2 images, 6 batches</summary>" in text
    assert "alert(&#x27;x&#x27;)" in text and "<script" not in text
    assert "grass, number 2" in text and "number 2, grass" in text  # shuffled otherwise in other draws
    assert not re.search(r"https?://|<link|@import|url\(", text)  # nothing is fetched
    assert "prefers-color-scheme: dark" in text
    monkeypatch.setattr(report_page, "MOST_PICTURES", 3)
    monkeypatch.setattr(report_page, "LEAST_PICTURES", 1)
    assert dry(described(tmp_path, images), tiny_v1, tmp_path / "out", report_html=page) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 3 and "2 images, 1 of them here" in text


def test_debug_dataset_without_a_screen_writes_the_page_and_trains_nothing(
    images: Path, tmp_path: Path, tiny_v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "has_screen", lambda: False)
    out = tmp_path / "out"
    assert dry(described(tmp_path, images), tiny_v1, out, dry_run=False, debug_dataset=True, seed=5) == 0
    assert [one.name for one in out.iterdir()] == ["dataset.html"]
    assert (out / "dataset.html").read_text(encoding="utf-8").count("<figure>") == 6


class Screen:
    """Replaces OpenCV's windows: presses the keys that it was given, and records what is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
        self.shown: list[np.ndarray] = []
        pressed = iter(keys)
        monkeypatch.setattr(preview, "has_screen", lambda: True)
        monkeypatch.setattr("cv2.namedWindow", lambda *args: None)
        monkeypatch.setattr("cv2.destroyAllWindows", lambda: None)
        monkeypatch.setattr("cv2.imshow", lambda title, pixels: self.shown.append(pixels))
        monkeypatch.setattr("cv2.waitKey", lambda wait: ord(next(pressed)))


def test_window_shows_image_by_image_s_skips_a_batch_e_an_epoch_and_escape_ends(
    images: Path, tmp_path: Path, tiny_v1: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = described(tmp_path, images)
    config.write_text(config.read_text(encoding="utf-8").replace("batch_size = 1", "batch_size = 3"), encoding="utf-8")
    screen = Screen(monkeypatch, "  S e \x1b")
    assert dry(config, tiny_v1, tmp_path / "out", dry_run=False, debug_dataset=True, seed=5) == 0
    places = [tuple(map(int, place)) for place in re.findall(r"epoch (\d+), batch (\d+) of 6, image (\d+) of 3", capsys.readouterr().out)]
    assert places == [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2)]
    assert len(screen.shown) == 7 and not (tmp_path / "out").exists()


def test_what_is_shown_is_what_the_loader_makes(images: Path, tmp_path: Path) -> None:
    """Pixels and texts of every draw of two epochs, with flips, random crops and all caption options."""
    from library.data.batching.sampler import EpochSampler
    from library.data.loading.dataset import PlannedUpdates, TrainingDataset
    from tests.data.material import filled, shout, tokenize

    subset = SUBSET + "flip_aug = true\nrandom_crop = true\ncaption_dropout_rate = 0.2\ntoken_warmup_step = 0.3"
    data = filled(tmp_path, BUCKETS + f"[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = '{images}'\n{subset}\n")
    sampler = EpochSampler(data, 3)
    dataset_, draws = TrainingDataset(data, tokenize, shout, PlannedUpdates(36, 2)), Draws(data, sampler, shout, 36, 2)
    requests = [request for epoch in range(2) for batch in sampler.epoch(epoch) for request in batch]
    assert len(requests) == 36
    for request in requests:
        assert draws.caption(request) == dataset_.caption(request)
        assert np.abs(draws.pixels(request) / 127.5 - 1 - dataset_.image(request).transpose(1, 2, 0)).max() < 1e-2
    assert len({draws.caption(request) for request in requests}) > 12


def ramp_and_draws(folder: Path, keys: str):
    """uint8 [128,256,3] that grows from left to right, the only image of a dataset at 128 px, with the dataset's sampler and draws."""
    from library.data.batching.sampler import EpochSampler
    from tests.data.material import filled

    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (128, 1, 3))
    (folder / "dog").mkdir()
    Image.fromarray(ramp).save(folder / "dog/ramp.png")
    text = f"[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\nclass_tokens = 'x'\n{keys}\n"
    sampler = EpochSampler(filled(folder, text), 1)
    return ramp, sampler, Draws(sampler.filled, sampler, lambda caption, rng: caption, 1, 1)


def test_a_crop_beside_the_middle_stands_in_its_place_mirrored_or_not(tmp_path: Path) -> None:
    ramp, sampler, draws = ramp_and_draws(tmp_path, "flip_aug = true\nrandom_crop = true")
    mirrored = set()
    for epoch in range(8):
        ((request,),) = sampler.epoch(epoch)
        shown = draws.with_surroundings(request, 256).astype(int)[64, :, 0]
        fits = []
        for whole in (ramp[64, :, 0], ramp[64, ::-1, 0]):
            near = (np.abs(shown - whole) <= 2) | (np.abs(shown - whole * 0.35) <= 2)
            fits.append(int(near.sum()) >= 254)  # all except the two columns of the frame
        assert any(fits)
        mirrored.add(fits[1])
    assert mirrored == {True, False}


def test_surroundings_are_dark_and_the_crop_stands_in_its_place(tmp_path: Path) -> None:
    ramp, sampler, draws = ramp_and_draws(tmp_path, "flip_aug = true")
    seen = set()
    for epoch in range(8):
        ((request,),) = sampler.epoch(epoch)
        shown = draws.with_surroundings(request, 256).astype(int)
        middle, outside = shown[64, 66:190, 0], shown[64, [*range(62), *range(194, 256)], 0]
        whole = ramp[64, ::-1, 0] if middle[0] > middle[-1] else ramp[64, :, 0]
        assert np.abs(middle - whole[66:190]).max() <= 2
        assert np.abs(outside - whole[[*range(62), *range(194, 256)]] * 0.35).max() <= 2
        seen.add(bool(middle[0] > middle[-1]))
    assert seen == {True, False}  # mirrored and not
