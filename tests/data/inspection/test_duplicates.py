"""Images that are there twice are found, whatever their size and format, and others are not; the work does not grow with the square."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from library.data.inspection import duplicates
from library.data.inspection.duplicates import Candidate, find_groups
from library.data.inspection.image_signature import SIGNATURE_BYTES, Look, look_at, signature
from library.data.scan.image_headers import Unreadable
from tests.data.material import photo


def candidate(path: Path) -> Candidate:
    with Image.open(path) as image:
        return Candidate(path, ImageOps.exif_transpose(image).size, path.stat().st_size, look_at(path).signature)


def groups(paths: list[Path]) -> list[tuple[bool, list[str]]]:
    return [(group.identical, [paths[index].name for index in group.members]) for group in find_groups([candidate(path) for path in paths])]


def test_copies_scaled_and_recoded_ones_are_found_among_photographs(photos: Path, tmp_path: Path) -> None:
    originals = sorted(photos.glob("*.jpg"))
    first, second = (Image.open(path) for path in originals[:2])
    (tmp_path / "copy.jpg").write_bytes(originals[0].read_bytes())
    first.resize((first.width * 2 // 3, first.height * 2 // 3)).save(tmp_path / "scaled.png")
    second.save(tmp_path / "recoded.webp", quality=60)
    Image.fromarray((np.asarray(second) * 0.97).astype(np.uint8)).save(tmp_path / "darker.jpg", quality=70)
    found = groups([*originals, *sorted(tmp_path.iterdir())])
    assert found == [
        (True, [originals[0].name, "copy.jpg"]),
        (False, [originals[0].name, "scaled.png"]),
        (False, [originals[1].name, "darker.jpg", "recoded.webp"]),
    ]


def test_what_differs_is_no_duplicate(photos: Path, tmp_path: Path) -> None:
    """Another crop, the mirror image, the same shapes in other colours, another shape of the frame."""
    original = sorted(photos.glob("*.jpg"))[0]
    image = Image.open(original)
    image.crop((0, 0, image.width // 2, image.height)).save(tmp_path / "half.jpg")
    ImageOps.mirror(image).save(tmp_path / "mirror.jpg")
    Image.fromarray(np.asarray(image)[:, :, ::-1].copy()).save(tmp_path / "blue.png")
    image.resize((image.width, image.height // 2)).save(tmp_path / "squeezed.png")
    assert groups([original, *sorted(tmp_path.iterdir())]) == []


def test_a_rotated_copy_is_the_same_when_exif_says_how_to_turn_it(photos: Path, tmp_path: Path) -> None:
    original = sorted(photos.glob("*.jpg"))[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(original).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert groups([original, tmp_path / "turned.jpg"]) == [(False, [original.name, "turned.jpg"])]


def test_look_tells_clear_parts_and_flat_images(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (90, 90, 90)).save(tmp_path / "flat.png")
    Image.new("RGBA", (80, 60), (90, 90, 90, 255)).save(tmp_path / "opaque.png")
    pixels = np.asarray(Image.open(photo(tmp_path / "photo.png", (80, 60))).convert("RGBA")).copy()
    pixels[:9, :9, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    assert look_at(tmp_path / "flat.png").flat and not look_at(tmp_path / "photo.png").flat
    assert look_at(tmp_path / "clear.png").clear and not look_at(tmp_path / "opaque.png").clear
    broken = bytearray((tmp_path / "photo.png").read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "broken.png").write_bytes(bytes(broken))
    with pytest.raises(Unreadable):
        look_at(tmp_path / "broken.png")


def test_only_a_look_becomes_a_look() -> None:
    good = signature(np.zeros((32, 32, 3), np.float32))
    assert len(good) == 2 * SIGNATURE_BYTES and Look.from_values([good, False, True]) == Look(good, False, True)
    assert not any(map(Look.from_values, ([], [good], ["zz" * SIGNATURE_BYTES, False, False], [good[2:], False, False], [good, 0, 0])))


def some(signs: list[int]) -> list[Candidate]:
    grey = bytes([128]) * 48
    return [Candidate(Path(str(n)), (64, 64), n, (sign.to_bytes(8, "big") + grey).hex()) for n, sign in enumerate(signs)]


def test_every_pair_within_the_limit_is_found_and_none_beyond() -> None:
    """By counting signs of all pairs, which is what the keys save."""
    rng = random.Random(1)
    signs: list[int] = []
    for _ in range(150):
        base = rng.getrandbits(64)
        signs += [base, base ^ sum(1 << place for place in rng.sample(range(64), rng.randint(0, 9)))]
    found = [group.members for group in find_groups(some(signs))]
    limit = duplicates.MOST_SIGNS
    pairs = [(one, other) for other in range(len(signs)) for one in range(other) if (signs[one] ^ signs[other]).bit_count() <= limit]
    assert found == pairs and 50 < len(found) < 150


@pytest.mark.parametrize("alike", [False, True])
def test_work_grows_with_the_number_of_images_and_not_with_its_square(alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all images look the same, in which case everything falls under the same keys."""
    rng = random.Random(2)
    real = np.bitwise_count
    compared = 0

    def counting(differing: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(differing)
        return real(differing)

    monkeypatch.setattr(np, "bitwise_count", counting)
    each = []
    for count in (1_000, 4_000):
        candidates = some([7 if alike else rng.getrandbits(64) for _ in range(count)])
        compared = 0
        found = find_groups(candidates)
        each.append(compared / count)
        assert len(found) == alike and (not alike or len(found[0].members) == count)
    assert max(each) <= 21 * 32  # two of 7 bands, and so many neighbours; one with all others would be 500 and 2000
    assert not alike or each[1] < 1.1 * each[0]
