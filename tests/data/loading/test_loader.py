"""Batches: the same from any number of workers, complete in every field, faults told in the main process."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from library.data.batching.buckets import FilledData
from library.data.batching.sampler import EpochSampler, SampleRequest
from library.data.loading import loader
from library.data.loading.batch import Batch
from library.data.loading.dataset import PlannedUpdates, TrainingDataset
from library.data.loading.loader import EpochLoader, Workers, worker_count
from library.data.loading.stand_ins import stand_ins
from library.errors import UserError
from tests.data.material import filled, one_epoch, photos, shout, tokenize, tokenize_weighted

CONFIG = """
[general]
enable_bucket = true
min_bucket_reso = 64
max_bucket_reso = 256
[[datasets]]
resolution = 128
batch_size = 2
  [[datasets.subsets]]
  image_dir = '{0}/dog'
  class_tokens = 'shs dog, on grass, blue sky'
  num_repeats = 2
  shuffle_caption = true
  flip_aug = true
  color_aug = true
  random_crop = true
  [[datasets.subsets]]
  image_dir = '{0}/reg'
  class_tokens = 'dog'
  is_reg = true
"""


@pytest.fixture
def data(tmp_path: Path) -> FilledData:
    photos(tmp_path / "dog", 3, (200, 140))
    photos(tmp_path / "dog/", 5, (140, 150), ".jpg")
    photos(tmp_path / "reg", 3, (150, 150))
    return filled(tmp_path, CONFIG.format(tmp_path.as_posix()), 0.5)


def assert_equal(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, field.name


def test_workers_change_nothing_and_live_on_between_epochs(data: FilledData) -> None:
    dataset = TrainingDataset(data, tokenize, shout)
    sampler = EpochSampler(data, 7)
    alone = EpochLoader(dataset, sampler)
    workers = EpochLoader(dataset, sampler, workers=Workers(2, persistent=True, context="spawn"))
    for epoch, start in ((0, 0), (3, 2)):
        expected, found = list(alone.epoch(epoch, start)), list(workers.epoch(epoch, start))
        assert len(expected) == sampler.batches_per_epoch - start == len(found)
        for one, other in zip(expected, found, strict=True):
            assert_equal(one, other)


def test_batch_holds_what_its_requests_say(data: FilledData) -> None:
    sampler = EpochSampler(data, 7)
    batches = list(one_epoch(TrainingDataset(data, tokenize_weighted, shout), sampler, 1))
    for batch, requests in zip(batches, sampler.epoch(1), strict=True):
        count = len(requests)
        width, height = data.placements[requests[0].record].bucket
        assert batch.images is not None and batch.images.shape == (count, 3, height, width) and batch.images.dtype == torch.float32
        assert batch.latents is None and len(batch) == count
        assert batch.input_ids.shape == (count, 1, 77) and batch.input_ids.dtype == torch.int64
        assert batch.token_weights is not None and batch.token_weights.shape == (count, 1, 77)
        assert batch.seeds.tolist() == [request.seed for request in requests] and batch.seeds.dtype == torch.int64
        assert batch.loss_weights.tolist() == [data.weight(request.record) for request in requests]
        assert batch.records == tuple(request.record for request in requests)
        assert batch.paths == tuple(str(data.records[request.record].path) for request in requests)
        for caption, ids in zip(batch.captions, batch.input_ids, strict=True):
            assert torch.equal(tokenize_weighted(caption)[0], ids)
            assert caption[-1] in "!?" and sorted(caption[:-1].split(", ")) in (["BLUE SKY", "ON GRASS", "SHS DOG"], ["DOG"])


def test_draws_do_not_depend_on_the_batch_size(data: FilledData, tmp_path: Path) -> None:
    single = filled(tmp_path, CONFIG.format(tmp_path.as_posix()).replace("batch_size = 2", "batch_size = 1"), 0.5)
    draws = []
    for one in (data, single):
        batches = one_epoch(TrainingDataset(one, tokenize, shout), EpochSampler(one, 7), 0)
        draws.append(
            {seed: (text, image) for b in batches for seed, text, image in zip(b.seeds.tolist(), b.captions, b.images, strict=True)}
        )
    assert draws[0].keys() == draws[1].keys()
    for seed, (text, image) in draws[0].items():
        assert text == draws[1][seed][0] and torch.equal(image, draws[1][seed][1])


def test_two_processes_load_the_images_of_the_global_batch(data: FilledData) -> None:
    sampler = EpochSampler(data, 7, processes=2)
    dataset = TrainingDataset(data, tokenize, shout)
    parts = [list(one_epoch(dataset, sampler, 0, process=process)) for process in range(2)]
    assert len(parts[0]) == len(parts[1]) == sampler.batches_per_epoch
    for first, second, batch in zip(*parts, sampler.epoch(0), strict=True):
        real = [seed for part in (first, second) for seed, weight in zip(part.seeds.tolist(), part.loss_weights, strict=True) if weight]
        assert sorted(real) == sorted(request.seed for request in batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_fault_in_a_worker_reaches_the_user_as_one_line(data: FilledData, workers: int) -> None:
    for record in data.records:
        record.path.write_bytes(record.path.read_bytes()[:300])
    with pytest.raises(UserError) as caught:
        list(one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 7), 0, workers=workers))
    (line,) = caught.value.problems
    assert any(str(record.path) in line for record in data.records) and "\n" not in line and "Traceback" not in line


def test_token_warmup_counts_updates(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 4, (64, 64))
    text = "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{}'\nclass_tokens = 'a, b, c'\ntoken_warmup_step = 0.5\n"
    data = filled(tmp_path, text.format((tmp_path / "dog").as_posix()))
    dataset = TrainingDataset(data, tokenize, planned=PlannedUpdates(8, 2))
    captions = [batch.captions[0] for epoch in range(3) for batch in one_epoch(dataset, EpochSampler(data, 7), epoch)]
    # a, b, c over 4 of 8 updates of 2 batches: 1, 1, 2, 2 tags, then 3
    assert [text.count(",") + 1 for text in captions] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def test_loading_leaves_the_global_random_stream_alone(data: FilledData) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 7), 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_count_is_the_smaller_of_what_is_asked_and_the_threads_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [worker_count(), worker_count(0), worker_count(3), worker_count(99)] == [8, 0, 3, 15]
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert worker_count() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert worker_count(8) == 0


def test_batch_moves_as_a_whole_but_for_its_seeds(data: FilledData) -> None:
    batch = next(one_epoch(TrainingDataset(data, tokenize_weighted), EpochSampler(data, 7), 0)).to("meta")
    assert {batch.images.device.type, batch.input_ids.device.type, batch.token_weights.device.type, batch.loss_weights.device.type} == {
        "meta"
    }
    assert batch.seeds.device.type == "cpu"


def test_stand_ins_are_of_the_kind_of_what_they_stand_in_for(data: FilledData) -> None:
    for index, record in enumerate(data.records):
        request = SampleRequest(index, 0, 0, 5, 1.0, 0)
        chosen = [data.records[one.record] for one, _ in stand_ins(data, request, any_size=True)]
        assert chosen and all(one.subset.is_reg == record.subset.is_reg and one.path != record.path for one in chosen)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="stands in for SIGBREAK")
def test_a_worker_outlives_what_a_console_sends_to_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, and Ctrl-Break on Windows, are the main process's affair; there the signal is called SIGBREAK."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp949")
    monkeypatch.setattr(sys, "stdout", output)
    try:
        loader._start_worker(0)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)] == [signal.SIG_IGN] * 2
        print("🐈", flush=True)  # a --dataset_class may print what the output has no sign for
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert output.buffer.getvalue().strip() == b"\\U0001f408"


def test_sizes_say_which_part_of_which_image_a_batch_shows(tmp_path: Path) -> None:
    """Images as large as their buckets are wide are not scaled, so that the part can be cut out of the file itself."""
    photos(tmp_path / "cat", 4, (128, 200))
    subset = f"[[datasets.subsets]]\nimage_dir = '{(tmp_path / 'cat').as_posix()}'\nclass_tokens = 'cat'\nrandom_crop = true\n"
    data = filled(tmp_path, f"[[datasets]]\nresolution = 128\nbatch_size = 4\n{subset}")
    (batch,) = one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, seed=7), 0)
    assert batch.images is not None and batch.sizes is not None
    tops = set()
    for picture, path, (width, height, left, top, *shown) in zip(batch.images, batch.paths, batch.sizes.tolist(), strict=True):
        pixels = torch.from_numpy(np.array(Image.open(path)))[top : top + 128, left : left + 128]
        assert torch.allclose(picture.permute(1, 2, 0) * 127.5 + 127.5, pixels.float(), atol=1e-3)
        assert (width, height, *shown) == (128, 200, 128, 128)
        tops.add(top)
    assert len(tops) > 1  # drawn, not the middle
