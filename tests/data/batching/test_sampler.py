"""The order of an epoch: complete, unmixed, a function of (seed, epoch), and the same training however it is divided."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from library.data.batching.buckets import FilledData, fill
from library.data.batching.sampler import Begun, Cut, EpochSampler, GlobalBatch, by_update
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.scan.records import ImageRecord, Scan
from library.seeds import python_rng
from tests.messages import refused

SIZES = [(512, 512), (600, 400), (400, 600), (512, 512), (800, 600), (512, 512), (601, 400)]


def data(batch_size: int = 2, names: str = "abcdefg", reg: int = 3) -> FilledData:
    """Two datasets: one with repeats and regularization images, one with other resolution and batch size."""
    train, other = SubsetOptions(num_repeats=3), SubsetOptions()
    reg_subset = SubsetOptions(is_reg=True)
    first = DatasetOptions((512, 512), batch_size, enable_bucket=True)
    second = DatasetOptions((768, 768), batch_size * 2)
    subsets = (train, reg_subset) if reg else (train,)
    blueprint = DatasetBlueprint((DatasetSpec(first, subsets), DatasetSpec(second, (other,))))
    sizes = dict(zip("abcdefghij", [*SIZES, (512, 512), (600, 400), (512, 512)], strict=True))
    records = [ImageRecord(Path(), name, sizes[name], name, train, 0, f"0/0/{name}") for name in names]
    records += [ImageRecord(Path(), f"r{n}", (512, 512), "", reg_subset, 0, f"0/1/r{n}") for n in range(reg)]
    records += [ImageRecord(Path(), name, sizes[name], name, other, 1, f"1/0/{name}") for name in names]
    return fill(Scan(blueprint, tuple(records), ()), prior_loss_weight=0.5)


def test_an_epoch_shows_every_train_image_times_its_repeats_and_as_many_regularization_images() -> None:
    filled = data()
    for epoch in (0, 1, 5):
        requests = [request for batch in EpochSampler(filled, 7).epoch(epoch) for request in batch]
        shown = Counter((request.record, request.repeat) for request in requests)
        assert set(shown.values()) == {1}
        by_subset = Counter((filled.records[r.record].dataset, filled.records[r.record].subset.is_reg) for r in requests)
        assert by_subset == {(0, False): 21, (0, True): 21, (1, False): 7}


def test_batches_never_mix_sizes_or_datasets_and_only_a_buckets_last_one_is_short() -> None:
    filled = data()
    sampler = EpochSampler(filled, 7)
    short: Counter[tuple[int, tuple[int, int]]] = Counter()
    for batch in sampler.epoch(0):
        places = {(filled.records[request.record].dataset, filled.placements[request.record].bucket) for request in batch}
        assert len(places) == 1
        (place,) = places
        short[place] += len(batch) < filled.blueprint.datasets[place[0]].options.batch_size
    assert max(short.values()) <= 1
    assert (
        len(sampler.epoch(0))
        == sampler.batches_per_epoch
        == sum(-(-bucket.count // (2 if bucket.dataset == 0 else 4)) for bucket in filled.buckets)
    )


def test_order_is_a_function_of_seed_and_epoch() -> None:
    filled = data()
    assert EpochSampler(filled, 7).epoch(3) == EpochSampler(data(), 7).epoch(3)
    orders = [
        [[request.record for request in batch] for batch in EpochSampler(filled, seed).epoch(epoch)]
        for seed, epoch in ((7, 3), (7, 4), (8, 3))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_starting_inside_an_epoch_gives_the_rest_of_it() -> None:
    sampler = EpochSampler(data(), 7)
    assert sampler.epoch(2, start=4) == sampler.epoch(2)[4:]
    assert [batch[0].batch for batch in sampler.epoch(2)] == list(range(2 * sampler.batches_per_epoch, 3 * sampler.batches_per_epoch))


def test_batches_of_the_buckets_come_mixed() -> None:
    filled = data(batch_size=1)
    order = [
        (filled.records[batch[0].record].dataset, filled.placements[batch[0].record].bucket) for batch in EpochSampler(filled, 7).epoch(0)
    ]
    changes = sum(one != other for one, other in itertools.pairwise(order))
    assert changes > 2 * len(set(order))


@pytest.mark.parametrize("processes", [2, 3])
def test_more_processes_with_smaller_batches_see_the_same_global_batches(processes: int) -> None:
    one = EpochSampler(data(batch_size=processes), 7)
    many = EpochSampler(data(batch_size=1), 7, processes)
    # the second dataset's batch is twice the first's: 2·processes against 2 × processes
    assert one.epoch(1) == many.epoch(1)
    assert one.batches_per_epoch == many.batches_per_epoch


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_divide_a_global_batch_and_their_weighted_means_average_to_its_mean(processes: int) -> None:
    filled = data(batch_size=1)
    sampler = EpochSampler(filled, 7, processes)
    loss = {index: 1.0 + index * 0.37 for index in range(len(filled.records))}
    for batch in sampler.epoch(0):
        shares = [sampler.share(batch, process) for process in range(processes)]
        real = [request for share in shares for request in share if request.weight]
        assert sorted((r.record, r.repeat, r.seed) for r in real) == sorted((r.record, r.repeat, r.seed) for r in batch)
        means = [sum(loss[r.record] * r.weight for r in share) / len(share) for share in shares]
        whole = sum(loss[r.record] * filled.weight(r.record) for r in batch) / len(batch)
        assert sum(means) / processes == pytest.approx(whole)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_image_of_an_update_counts_the_same_in_batches_of_any_size_on_any_number_of_processes(processes: int, size: int) -> None:
    filled = data()
    sampler = EpochSampler(filled, 7, processes)
    loss = {index: 1.0 + index * 0.37 for index in range(len(filled.records))}
    batches = sampler.epoch(0, start=2)
    assert len({len(batch) for batch in batches}) > 1
    weighed = list(by_update(batches, size))
    for begin in range(0, len(batches), size):
        images = [request for batch in batches[begin : begin + size] for request in batch]
        whole = sum(loss[r.record] * filled.weight(r.record) for r in images) / len(images)  # weights multiply, they do not count
        update = weighed[begin : begin + size]
        shares = [sampler.share(batch, process) for batch in update for process in range(processes)]
        means = [sum(loss[r.record] * r.weight for r in share) / len(share) for share in shares]
        assert sum(means) / len(means) == pytest.approx(whole)
    assert [[(r.record, r.seed) for r in batch] for batch in weighed] == [[(r.record, r.seed) for r in batch] for batch in batches]


def test_batches_of_one_size_keep_their_weights_to_the_bit() -> None:
    batches = [batch for batch in EpochSampler(data(), 7).epoch(0) if len(batch) == 2]
    assert len(batches) > 4 and [without_strata(batch) for batch in by_update(batches, 3)] == batches


def without_strata(batch: GlobalBatch) -> GlobalBatch:
    return tuple(replace(request, stratum=None) for request in batch)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_images_of_an_update_share_out_its_strata_whatever_the_batches(processes: int) -> None:
    sampler = EpochSampler(data(batch_size=1), 7, processes)
    batches = list(by_update(sampler.epoch(1), 3, sampler.seed))
    orders = []
    for begin in range(0, len(batches), 3):
        images = [request for batch in batches[begin : begin + 3] for request in batch]
        orders.append(tuple(request.stratum for request in images))
        assert sorted(orders[-1]) == [(place, len(images)) for place in range(len(images))]
        shares = [sampler.share(batch, process) for batch in batches[begin : begin + 3] for process in range(processes)]
        assert {(r.record, r.repeat, r.stratum) for share in shares for r in share} == {(r.record, r.repeat, r.stratum) for r in images}
    assert len(set(orders)) > 1  # the order is drawn again for each update
    assert list(by_update(sampler.epoch(1, start=6), 3, sampler.seed)) == batches[6:]  # a resumed run has the same
    assert list(by_update(sampler.epoch(1), 3, 8)) != batches


def test_a_process_without_an_image_of_a_short_batch_gets_one_with_weight_zero() -> None:
    sampler = EpochSampler(data(batch_size=1, names="a", reg=0), 7, processes=4)
    batch = sampler.epoch(0)[0][:1]
    shares = [sampler.share(batch, process) for process in range(4)]
    assert [[request.weight for request in share] for share in shares] == [[4.0], [0.0], [0.0], [0.0]]


def test_adding_an_image_leaves_the_seeds_of_the_others() -> None:
    def seeds(filled: FilledData) -> dict[tuple[str, int], int]:
        requests = [request for batch in EpochSampler(filled, 7).epoch(2) for request in batch]
        return {(filled.records[request.record].key, request.repeat): request.seed for request in requests}

    before, after = seeds(data(reg=0)), seeds(data(names="abcdefgh", reg=0))
    assert before.items() <= after.items() and len(after) == len(before) + 4
    assert len(set(after.values())) == len(after)


def test_seed_does_not_depend_on_batch_size_and_changes_with_epoch_and_run_seed() -> None:
    def seeds(batch_size: int, seed: int, epoch: int) -> set[int]:
        return {request.seed for batch in EpochSampler(data(batch_size), seed).epoch(epoch) for request in batch}

    assert seeds(1, 7, 0) == seeds(4, 7, 0)
    assert seeds(1, 7, 0).isdisjoint(seeds(1, 8, 0)) and seeds(1, 7, 0).isdisjoint(seeds(1, 7, 1))


def test_regularization_images_weigh_prior_loss_weight() -> None:
    filled = data()
    weights = {(filled.records[r.record].subset.is_reg, r.weight) for batch in EpochSampler(filled, 7).epoch(0) for r in batch}
    assert weights == {(False, 1.0), (True, 0.5)}
    assert {r.weight for batch in EpochSampler(replace(filled, prior_loss_weight=2.0), 7).epoch(0) for r in batch} == {1.0, 2.0}


@pytest.mark.parametrize("changes", [[(2, 1, 4), (3, 1, 5)], [(2, 2, 3), (4, 1, 2), (1, 2, 6)]])
def test_an_epoch_that_goes_on_in_batches_of_other_sizes_shows_each_image_once(changes) -> None:
    """(batch size, processes, batches done) of each stretch; the rest of the epoch is in batches of 2, later epochs are as ever."""
    seen: Counter[tuple[int, int]] = Counter()
    cuts: list[Cut] = []
    for batch_size, processes, done in [*changes, (2, 1, None)]:
        sampler = EpochSampler(data(batch_size), 7, processes, Begun(3, tuple(cuts)))
        batches = sampler.epoch(3)
        assert len(batches) == sampler.length(3)
        end = 4 * sampler.batches_per_epoch  # so that what counts batches continues where epoch 4 begins
        assert [{request.batch for request in batch} for batch in batches] == [{number} for number in range(end - len(batches), end)]
        assert all(len({(r.record, r.repeat) for r in batch}) == len(batch) <= max(sampler.sizes) for batch in batches)
        assert list(sampler.epoch(3, 2)) == list(batches[2:])
        seen.update((request.record, request.repeat) for batch in batches[:done] for request in batch)
        cuts.append(Cut(sampler.sizes, done or 0))
    whole = Counter((request.record, request.repeat) for batch in EpochSampler(data(), 7).epoch(3) for request in batch)
    assert seen == whole and set(seen.values()) == {1}
    assert sampler.epoch(4) == EpochSampler(data(), 7).epoch(4)


@pytest.mark.parametrize("processes", [1, 2])
def test_images_left_out_are_replaced_by_others_of_their_size_and_nothing_else_changes(processes: int) -> None:
    filled = data(reg=3)
    sampler, whole = EpochSampler(filled, 7, processes), EpochSampler(filled, 7, processes)
    gone = {"0/0/a", "0/0/b", "0/1/r0", "1/0/c"}
    sampler.leave_out(gone)
    for epoch in (0, 3):
        seeds = set()
        for before, after in zip(whole.epoch(epoch), sampler.epoch(epoch), strict=True):
            assert len(before) == len(after)
            places = {(filled.records[r.record].dataset, filled.placements[r.record].bucket) for r in after}
            assert len(places) == 1
            for old, new in zip(before, after, strict=True):
                if filled.records[old.record].key in gone:
                    assert filled.records[new.record].key not in gone
                    assert filled.records[new.record].subset.is_reg == filled.records[old.record].subset.is_reg
                elif filled.records[old.record].key != "0/0/g":  # b and g share a size: of theirs only g is left
                    assert old == new
            seeds |= {request.seed for request in after}
        assert len(seeds) == sum(len(batch) for batch in sampler.epoch(epoch))  # no draw is made twice


def test_a_size_of_which_nothing_is_left_gives_its_batches_to_another() -> None:
    filled = data(names="ab", reg=0)
    sampler = EpochSampler(filled, 7)
    sampler.leave_out({"0/0/b"})
    batches = sampler.epoch(0)
    assert len(batches) == len(EpochSampler(filled, 7).epoch(0))
    assert all(len({filled.placements[request.record].bucket for request in batch}) == 1 for batch in batches)
    assert "0/0/b" not in {filled.records[request.record].key for batch in batches for request in batch}
    with refused("DATA-012"):
        sampler.leave_out({record.key for record in filled.records})


def test_repeats_take_eight_bytes_a_draw_and_the_order_is_what_it_was(tmp_path: Path) -> None:
    subset = SubsetOptions(num_repeats=100_000)
    records = tuple(ImageRecord(Path(), name, (64, 64), "", subset, 0, f"0/0/{name}") for name in "abc")
    scanned = Scan(DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64), 1), (subset,)),)), records, ())
    tracemalloc.start()
    try:
        sampler = EpochSampler(fill(scanned), 7)
        batches = sampler.epoch(2, start=1000)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * 300_000 + 1_500_000 and len(batches) == 299_000
    entries = [(record, repeat) for record in range(3) for repeat in range(100_000)]
    python_rng(7, "bucket", 2, 0, 64, 64).shuffle(entries)
    python_rng(7, "batches", 2).shuffle(entries)
    assert [(batch[0].record, batch[0].repeat) for batch in batches[:50]] == entries[1000:1050]
    assert batches[-1][0].batch == 3 * 300_000 - 1


def test_regularization_images_have_their_turn_with_repeats_that_count_from_each_epochs_beginning() -> None:
    """By going through them in turn, as the rule says."""
    filled = data(reg=3)
    for epoch in range(4):
        for bucket in filled.buckets:
            shown: Counter[int] = Counter()
            expected = [(record, repeat) for record, repeats in bucket.train for repeat in range(repeats)]
            for position in range(epoch * bucket.drawn, (epoch + 1) * bucket.drawn):
                record = bucket.pool.records[position % len(bucket.pool.records)]
                expected.append((record, shown[record]))
                shown[record] += 1
            assert list(map(tuple, bucket.entries(epoch))) == expected


def test_an_epoch_that_repeats_make_endless_is_refused() -> None:
    subset = SubsetOptions(num_repeats=1_000_000, place="x.toml: datasets[0].subsets[0]")
    records = tuple(ImageRecord(Path(), str(n), (64, 64), "", subset, 0, f"0/0/{n}") for n in range(21))
    scanned = Scan(DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64), 1), (subset,)),)), records, ())
    with refused("DATA-013", "x.toml: datasets[0].subsets[0]", "num_repeats", "21 images", "21,000,000", "20,000,000"):
        fill(scanned)
