"""The bucket rule by hand-worked figures and by its properties; balancing of regularization images."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from library.data.batching.buckets import FilledData, Placement, bucket_sizes, fill, place
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.scan.records import ImageRecord, Scan
from tests.messages import message, refused

BUCKETS = DatasetOptions((512, 512), enable_bucket=True)
NO_UPSCALE = replace(BUCKETS, bucket_no_upscale=True)


def test_predefined_buckets_of_512_are_the_known_ones() -> None:
    # ⌊262144/w⌋ floored to 64 for w = 256, 320, … 1024: 1024, 768 (819), 640 (682), 576 (585), 512, 448 (455), 384 (409), 320 (372),
    # 320 (341), 256 (315), 256 (292), 256 (273), 256
    one_way = [(256, 1024), (320, 768), (384, 640), (448, 576), (512, 512), (576, 448), (640, 384), (704, 320), (768, 320)]
    one_way += [(832, 256), (896, 256), (960, 256), (1024, 256)]
    assert set(bucket_sizes(BUCKETS)) == {*one_way, *((height, width) for width, height in one_way)}
    assert bucket_sizes(BUCKETS) == tuple(sorted(set(bucket_sizes(BUCKETS))))


def test_square_side_is_the_floored_root_of_the_area() -> None:
    # 512·768 = 393216, root 627.07 -> 576
    assert (576, 576) in bucket_sizes(replace(BUCKETS, resolution=(512, 768)))
    # area under min²: nothing but the square
    assert bucket_sizes(replace(BUCKETS, resolution=(128, 128), min_bucket_reso=256)) == ((128, 128),)


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((512, 512), (512, 512), (512, 512)),
        ((1000, 1000), (512, 512), (512, 512)),
        ((64, 64), (512, 512), (512, 512)),  # enlarged
        ((768, 320), (768, 320), (768, 320)),  # is a bucket itself: not moved to 704×320
        # 1.5 is 0.167 from 640×384 (1.667) and 0.214 from 576×448 (1.286); narrower than the bucket: by width, 400·640/600 = 426.67
        ((600, 400), (640, 384), (640, 427)),
        ((400, 600), (384, 576 + 64), (427, 640)),
        # 4/3: 0.048 from 1.286; wider than it: by height, 800·448/600 = 597.33
        ((800, 600), (576, 448), (597, 448)),
        # 0.75: 0.028 from 448×576 (0.778), narrower: by width 448, 800·448/600 = 597.33
        ((600, 800), (448, 576), (448, 597)),
        ((30000, 100), (1024, 256), (76800, 256)),
        ((63, 500), (256, 1024), (256, 2032)),  # 500·256/63 = 2031.7
        ((1600, 900), (704 - 64, 384), (683, 384)),  # 1.778 is 0.111 from 1.667, 0.422 from 2.2; 1600·384/900 = 682.67
    ],
)
def test_image_lands_in_the_bucket_that_the_rule_says(size: tuple[int, int], bucket: tuple[int, int], resized: tuple[int, int]) -> None:
    assert place(size, BUCKETS) == Placement(bucket, resized)


def test_of_equally_near_buckets_the_first_in_order_wins() -> None:
    options = DatasetOptions((128, 128), enable_bucket=True, min_bucket_reso=64, max_bucket_reso=128)
    assert bucket_sizes(options) == ((64, 128), (128, 64), (128, 128))
    assert place((60, 80), options) == Placement((64, 128), (96, 128))  # 0.75 is 0.25 from 0.5 and from 1
    assert place((90, 60), options) == Placement((128, 64), (128, 85))  # 1.5 is 0.5 from 2 and from 1


def test_half_a_pixel_is_rounded_up() -> None:
    # to 64×64 by height: 129·64/128 = 64.5 -> 65
    assert place((129, 128), DatasetOptions((64, 64))) == Placement((64, 64), (65, 64))


def test_without_buckets_every_image_covers_the_resolution() -> None:
    options = DatasetOptions((512, 768))
    assert place((1000, 1000), options) == Placement((512, 768), (768, 768))
    assert place((100, 1000), options) == Placement((512, 768), (512, 5120))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), Placement((512, 512), (512, 512))),
        ((300, 200), Placement((256, 192), (300, 200))),  # smaller: kept, floored
        ((64, 64), Placement((64, 64), (64, 64))),
        # 1500×1000: w' 627.07 -> 576, 576/1.5 = 384: 1.5 exactly; h' 418.04 -> 384, 576: 1.5 too. Tie: by height, 384·1.5 = 576
        ((1500, 1000), Placement((576, 384), (576, 384))),
        # 1000×700, 1.42857: w' 611.9 -> 576, /1.42857 = 403.2 -> 384, 1.5 (0.071); h' 428.4 -> 384, ·1.42857 = 548.6 -> 512, 1.333 (0.095):
        # by width: 576, 403
        ((1000, 700), Placement((576, 384), (576, 403))),
        # 800×600, 1.3333: w' 591.2 -> 576, 432 -> 384, 1.5 (0.167); h' 443.4 -> 384, 512, 1.3333 (0): by height
        ((800, 600), Placement((512, 384), (512, 384))),
        ((600, 800), Placement((384, 512), (384, 512))),
        # 512×672, 16/21: w' 446.9 -> 384, 504 -> 448, 6/7; h' 586.6 -> 576, 438.9 -> 384, 2/3. Both 2/21 off: a tie, by height: 438.9, 576
        ((512, 672), Placement((384, 576), (439, 576))),
        ((63, 500), None),
        ((3000, 63), None),
        ((40, 40), None),
        ((30000, 100), None),
        ((5000, 64), None),  # more than 512² pixels: shrunk, height 58
    ],
)
def test_no_upscale_shrinks_or_keeps(size: tuple[int, int], expected: Placement | None) -> None:
    assert place(size, NO_UPSCALE) == expected


SIZES = [(width, height) for width in range(20, 2600, 157) for height in range(20, 2600, 173)]
SETTINGS = [
    BUCKETS,
    replace(BUCKETS, bucket_reso_steps=32, min_bucket_reso=128, max_bucket_reso=768),
    replace(BUCKETS, resolution=(448, 640)),
    DatasetOptions((768, 768), enable_bucket=True, max_bucket_reso=1536),
    DatasetOptions((512, 384)),
    NO_UPSCALE,
    replace(NO_UPSCALE, bucket_reso_steps=8),
]


@pytest.mark.parametrize("options", SETTINGS)
def test_every_bucket_lies_on_the_steps_within_the_area_and_the_resized_image_covers_it(options: DatasetOptions) -> None:
    steps = options.bucket_reso_steps
    for size in SIZES:
        placement = place(size, options)
        if placement is None:
            assert options.bucket_no_upscale
            continue
        (width, height), (wide, high) = placement.bucket, placement.resized
        assert width % steps == height % steps == 0 and width > 0 and height > 0
        assert wide >= width and high >= height
        assert width == wide or height == high or options.bucket_no_upscale
        # only as much is scaled as needed, and the aspect stays to within the rounding
        assert math.isclose(wide / high, size[0] / size[1], rel_tol=1 / min(wide, high))
        if options.enable_bucket:
            rounding = wide + high if options.bucket_no_upscale else 0  # there a side is rounded up before it is floored
            assert width * height <= rounding + options.resolution[0] * options.resolution[1]
        if options.bucket_no_upscale:
            assert wide <= size[0] + 1 and high <= size[1] + 1
            assert wide - width < steps and high - height < steps
        elif options.enable_bucket and width != height:
            assert options.min_bucket_reso <= min(width, height) and max(width, height) <= options.max_bucket_reso


def data(*subsets: tuple[SubsetOptions, int, tuple[int, int]], options: DatasetOptions = BUCKETS) -> FilledData:
    """A dataset of (subset, number of images, their size)."""
    blueprint = DatasetBlueprint((DatasetSpec(options, tuple(subset for subset, _, _ in subsets)),))
    records = [
        ImageRecord(Path(f"{position}"), f"{number}.png", size, "x", subset, 0, f"0/{position}/{number}.png")
        for position, (subset, count, size) in enumerate(subsets)
        for number in range(count)
    ]
    return fill(Scan(blueprint, tuple(records), ()), 0.5)


def shown(filled: FilledData, epoch: int, reg: bool) -> Counter[int]:
    entries = [entry for bucket in filled.buckets for entry in bucket.entries(epoch)]
    assert len(set(entries)) == len(entries), "one showing must not happen twice"
    return Counter(entry.record for entry in entries if filled.records[entry.record].subset.is_reg == reg)


def test_too_few_regularization_images_are_cycled_to_the_number_of_train_images_times_repeats() -> None:
    filled = data((SubsetOptions(num_repeats=5), 3, (512, 512)), (SubsetOptions(is_reg=True), 4, (512, 512)))
    counts = shown(filled, 0, reg=True)
    assert sum(counts.values()) == 15 and set(counts.values()) == {3, 4}
    assert filled.figures[0].reg_shown == 15 and filled.figures[0].reg_left_over == 0
    assert filled.weight(0) == 1.0 and filled.weight(3) == 0.5
    assert filled.findings == ()


def test_too_many_regularization_images_are_left_over_told_and_take_turns() -> None:
    filled = data((SubsetOptions(num_repeats=2), 3, (512, 512)), (SubsetOptions(is_reg=True), 20, (512, 512)))
    assert filled.figures[0].reg_left_over == 14
    message(filled.findings[:1], "14 of 20 regularization images")
    epochs = [shown(filled, epoch, reg=True) for epoch in range(10)]
    assert all(sum(counts.values()) == 6 == len(counts) for counts in epochs)
    assert sum(epochs, Counter()) == Counter({3 + n: 3 for n in range(20)})


def test_regularization_images_are_drawn_from_all_sizes_in_proportion_and_alike_in_every_epoch() -> None:
    filled = data(
        (SubsetOptions(num_repeats=10), 1, (512, 512)),
        (SubsetOptions(is_reg=True), 30, (512, 512)),
        (SubsetOptions(is_reg=True), 20, (600, 400)),
    )
    assert filled.figures[0].buckets == (((512, 512), 16), ((640, 384), 4))
    for epoch in range(3):
        assert [len(bucket.entries(epoch)) for bucket in filled.buckets] == [16, 4]


def test_repeats_weigh_regularization_folders() -> None:
    filled = data(
        (SubsetOptions(num_repeats=40), 1, (512, 512)),
        (SubsetOptions(is_reg=True, num_repeats=3), 5, (512, 512)),
        (SubsetOptions(is_reg=True), 5, (512, 512)),
    )
    counts = shown(filled, 0, reg=True)
    assert sum(counts.values()) == 40
    assert [counts[n] for n in range(1, 6)] == [6] * 5 and [counts[n] for n in range(6, 11)] == [2] * 5


def test_image_that_cannot_fill_a_step_is_left_out_and_told() -> None:
    filled = data((SubsetOptions(), 2, (512, 512)), (SubsetOptions(), 1, (3000, 63)), options=NO_UPSCALE)
    assert len(filled.records) == 2 and "3000×63" in filled.findings[0] and "bucket_reso_steps" in filled.findings[0]
    with refused("DATA-012", "bucket_reso_steps", "0/0.png (40×40)"):
        data((SubsetOptions(place="here"), 1, (40, 40)), options=NO_UPSCALE)


def test_an_image_of_exactly_the_area_keeps_its_size() -> None:
    # shrunk it would be 64×100: 80 -> 64, 100 -> 64 (0.36 off) against 125 -> 64, 41 -> 0 (0.64 off)
    options = replace(NO_UPSCALE, resolution=(100, 100))
    assert place((80, 125), options) == Placement((64, 64), (80, 125))
    assert place((80, 126), options) == Placement((64, 64), (64, 101))


def test_the_rest_of_a_division_goes_to_the_size_that_it_is_nearest_to() -> None:
    # 10 among 5 and 10 images: 3.33 and 6.67
    filled = data(
        (SubsetOptions(num_repeats=10), 1, (512, 512)),
        (SubsetOptions(is_reg=True), 5, (400, 600)),
        (SubsetOptions(is_reg=True), 10, (600, 400)),
    )
    assert {bucket.size: bucket.drawn for bucket in filled.buckets if bucket.drawn} == {(384, 640): 3, (640, 384): 7}


def test_a_part_of_the_regularization_images_is_a_part_of_each_of_their_folders() -> None:
    reg = (SubsetOptions(is_reg=True), 40, (512, 512))
    filled = data((SubsetOptions(num_repeats=20), 1, (512, 512)), reg, reg)
    counts = shown(filled, 0, reg=True)
    assert 4 <= sum(counts[index] for index in range(1, 41)) <= 16


def test_loss_weight_of_a_regularization_folder_multiplies_the_prior_loss_weight() -> None:
    filled = data((SubsetOptions(loss_weight=3.0), 1, (512, 512)), (SubsetOptions(is_reg=True, loss_weight=0.5), 1, (512, 512)))
    assert filled.weight(0) == 3.0 and filled.weight(1) == 0.25
