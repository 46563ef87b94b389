"""What a user's dataset class returns: good batches become what is trained, each error is a line with class, index and expectation."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from library.data.batching.sampler import SampleRequest
from library.data.loading.custom_batches import CaptionReading, CustomBatchDataset, CustomSource, counted_by_images, seeded
from library.data.loading.custom_check import BEGIN, END, CustomItem, checked
from library.errors import UserError
from tests.messages import refusal, refusals, refused

PLACE = "--dataset_class mine.Batches[3]"
IDS = torch.full((2, 77), END)
IDS[:, 0] = BEGIN
GOOD: dict[str, Any] = {"images": torch.linspace(-1, 1, 2 * 3 * 16 * 24).reshape(2, 3, 16, 24), "captions": ["a cat", "a dog"]}


def look(changes: Mapping[str, Any], windows: int = 1, needs_text: bool = True) -> CustomItem:
    return checked(GOOD | dict(changes), PLACE, windows, needs_text)


def test_a_good_batch_passes_with_what_may_be_missing_filled_in() -> None:
    item = look({})
    assert torch.equal(item.pictures, GOOD["images"]) and item.size == (24, 16) and len(item) == 2 and not item.are_latents
    assert item.captions == ("a cat", "a dog") and item.loss_weights.tolist() == [1, 1]
    assert item.input_ids is item.masks is item.image_keys is None and item.unused == item.hints == ()


def test_numpy_half_precision_and_lists_are_taken_as_float_tensors_are() -> None:
    item = look({"images": GOOD["images"].half().numpy(), "loss_weights": [0.5, 2.0], "image_keys": ("one", "two"), "flippeds": None})
    assert item.pictures.dtype == torch.float32 and torch.equal(item.pictures, GOOD["images"].half().float())
    assert item.loss_weights.tolist() == [0.5, 2.0] and item.image_keys == ("one", "two") and item.unused == ()


def test_latents_tell_the_size_of_their_pictures() -> None:
    item = look({"images": None, "latents": torch.randn(2, 4, 4, 3, dtype=torch.float64)})
    assert item.are_latents and item.size == (24, 32) and item.pictures.dtype == torch.float32


def test_ids_of_one_window_may_lack_its_dimension() -> None:
    assert look({"captions": None, "input_ids": IDS}).input_ids.shape == (2, 1, 77)
    assert look({"input_ids": IDS[:, None].expand(2, 3, 77).int()}, windows=3).input_ids.dtype == torch.int64


def test_masks_in_pixels_are_averaged_to_the_size_of_latents() -> None:
    masks = torch.zeros(2, 16, 24)
    masks[0, :4, :8] = 1
    small = look({"masks": masks}).masks
    assert small.shape == (2, 1, 2, 3) and small[0, 0, 0].tolist() == [0.5, 0, 0] and not small[1].any()
    assert torch.equal(look({"masks": small}).masks, small)


def test_what_is_allowed_and_looks_like_a_mistake_is_hinted_at() -> None:
    assert "images * 2 - 1" in look({"images": GOOD["images"].clamp(min=0)}).hints[0]
    assert "multiplied by 0.18215" in look({"images": None, "latents": torch.randn(2, 4, 8, 8) * 5.5}).hints[0]


NAN = GOOD["images"].clone()
NAN[1, 0, 0, 0] = float("nan")
BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"images": None}, ("neither images nor latents", "captions")),
    ({"latents": torch.zeros(2, 4, 2, 3)}, ("both images and latents",)),
    ({"images": torch.zeros(2, 3, 16, 24, dtype=torch.uint8)}, ("images", "uint8", "float tensor [B,3,H,W] in -1..1", "127.5")),
    ({"images": torch.zeros(2, 16, 24, 3)}, ("images", "[2,16,24,3]", "[B,3,H,W]", "position 2")),
    ({"images": torch.zeros(3, 16, 24)}, ("images", "[3,16,24]", "[B,3,H,W]")),
    ({"images": torch.zeros(0, 3, 16, 24)}, ("images", "[0,3,16,24]", "[B,3,H,W]")),
    ({"images": torch.zeros(2, 3, 20, 24)}, ("images", "24×20", "multiples of 8")),
    ({"images": GOOD["images"] * 255}, ("images", "-255 to 255", "-1..1", "127.5")),
    ({"images": NAN}, ("images", "not finite", "row 1")),
    ({"images": [torch.zeros(3, 16, 24)] * 2}, ("images", "list of tensors", "[B,3,H,W]", "combine")),
    ({"images": "a.png"}, ("images", "a str", "float tensor")),
    ({"images": None, "latents": torch.zeros(2, 3, 2, 3)}, ("latents", "[2,3,2,3]", "[B,4,H/8,W/8]")),
    ({"images": None, "latents": torch.full((2, 4, 2, 3), torch.inf)}, ("latents", "not finite", "row 0, 1")),
    ({"captions": None}, ("neither captions nor input_ids", "2 images")),
    ({"captions": "a cat"}, ("captions", "a str", "list of 2 texts")),
    ({"captions": ["a cat"]}, ("captions", "1 entry", "list of 2 texts")),
    ({"captions": ["a cat", 3]}, ("captions", "a int", "list of 2 texts")),
    ({"input_ids": IDS.float()}, ("input_ids", "float32", "whole numbers [2,1,77] or [2,77]")),
    ({"input_ids": IDS[:, :75]}, ("input_ids", "[2,75]", "whole numbers [2,1,77] or [2,77]", "--max_token_length 75")),
    ({"input_ids": torch.zeros_like(IDS)}, ("input_ids", "CLIP", "49406", "49407")),
    ({"input_ids": IDS + 1}, ("input_ids", "CLIP", "49406", "49407")),
    ({"loss_weights": torch.ones(3)}, ("loss_weights", "[3]", "float numbers [2]")),
    ({"loss_weights": [1, 2]}, ("loss_weights", "int64", "float numbers [2]")),
    ({"loss_weights": [1.0, float("nan")]}, ("loss_weights", "not finite", "row 1")),
    ({"masks": torch.ones(2, 8, 8)}, ("masks", "[2,8,8]", "[2,16,24] or [2,1,2,3]")),
    ({"masks": torch.ones(2, 16, 24) * 255}, ("masks", "255 to 255", "0..1")),
    ({"image_keys": ["one"]}, ("image_keys", "1 entry", "list of 2 texts")),
    ({"loss_weight": [1.0, 1.0]}, ("'loss_weight'", "'loss_weights'?")),
    ({"alpha_masks": torch.ones(2, 16, 24)}, ("'alpha_masks'", "'masks'?")),
]


@pytest.mark.parametrize(("changes", "names"), BAD, ids=[" ".join(names)[:40] for _, names in BAD])
def test_each_fault_of_a_batch_is_one_line_with_its_place(changes: dict[str, Any], names: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        look(changes)
    (line,) = error.value.problems
    assert line.startswith(f"{PLACE}: ") and "\n" not in line
    refusal([line], "DATA-022", *names)


def test_all_faults_of_a_batch_are_told_together() -> None:
    with pytest.raises(UserError) as error:
        look({"captions": [], "loss_weights": [1.0], "masks": torch.ones(1)})
    assert [line.removeprefix(PLACE)[2:].split()[0] for line in error.value.problems] == ["captions", "loss_weights", "masks"]


def test_what_is_no_dict_is_told() -> None:
    with refused("DATA-022", PLACE, "tuple", "dict"):
        checked((1, 2), PLACE, 1)


def test_ids_of_other_windows_than_asked_for_are_told() -> None:
    with refused("DATA-022", PLACE, "input_ids", "[2,2,77]", "--max_token_length 150"):
        look({"input_ids": IDS}, windows=2)


class Drawing:
    """Batches of random numbers from all three streams."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return 2

    def set_current_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)
        self.shift = random.random()

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 1:
            return {"images": torch.zeros(1, 3, 8, 8), "captions": ["still"]}
        parts = (torch.rand(1, 3, 8, 8), torch.from_numpy(np.random.rand(1, 3, 8, 8)), torch.full((1, 3, 8, 8), random.random()))
        return {"images": sum(parts) / 6 + self.shift / 2, "captions": ["drawn"], "loss_weights": [0.5]}


def request(record: int, epoch: int = 0, weight: float = 1.0) -> tuple[SampleRequest, ...]:
    return (SampleRequest(record, 0, epoch, 1000 * epoch + record, weight, 0),)


def tokenize(caption: str) -> tuple[torch.Tensor, None]:
    ids = torch.full((1, 77), END)
    ids[0, 0], ids[0, 1] = BEGIN, len(caption)
    return ids, None


def dataset(instance: Any, **more: Any) -> CustomBatchDataset:
    are_latents = more.pop("are_latents", False)
    return CustomBatchDataset(CustomSource("mine.Batches", instance), 7, CaptionReading(tokenize, 1, **more), are_latents, 0.18215)


def test_what_the_class_draws_is_a_function_of_the_place_and_leaves_the_streams_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    data, other = dataset(Drawing()), dataset(Drawing())
    first = data[request(0)]
    other[request(1)], other[request(0, epoch=1)]
    assert torch.equal(first.images, other[request(0)].images), "what was asked for before has no say"
    assert not torch.equal(first.images, data[request(0, epoch=1)].images)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_the_epoch_is_told_once_and_counted_from_one_also_in_a_copy() -> None:
    drawing = Drawing()
    data = dataset(drawing)
    data[request(0)], data[request(1)], data[request(1, epoch=1)]
    assert drawing.epochs == [1, 2]
    copy = pickle.loads(pickle.dumps(dataset(Drawing())))
    assert torch.equal(copy[request(0)].images, dataset(Drawing())[request(0)].images) and copy.source.dataset.epochs == [1]


def test_a_batch_carries_weights_names_seeds_and_ids_for_each_image() -> None:
    class Two:
        def __getitem__(self, index: int) -> dict[str, Any]:
            return GOOD | {"loss_weights": torch.tensor([1.0, 3.0]), "input_ids": IDS}

    batch = dataset(Two())[request(1, weight=0.5)]
    assert batch.loss_weights.tolist() == [0.5, 1.5] and batch.records == (1, 1) and len(batch) == 2
    assert batch.paths == ("mine.Batches[1] image 0", "mine.Batches[1] image 1") and batch.captions == ("a cat", "a dog")
    assert len(set(batch.seeds.tolist())) == 2 and torch.equal(batch.input_ids, IDS[:, None]), "the class's ids are trained"
    again = dataset(Two(), reread="--token_string", rewrite_caption=lambda text, rng: text + "!")[request(1)]
    assert again.captions == ("a cat!", "a dog!") and again.input_ids[:, 0, 1].tolist() == [6, 6], "ids from the captions are"


def test_scaled_latents_arrive_as_the_step_wants_them() -> None:
    latents = torch.randn(2, 4, 2, 2)

    class Latents:
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"latents": latents, "captions": ["a", "b"]}

    batch = dataset(Latents(), are_latents=True)[request(0)]
    assert batch.images is None and torch.allclose(batch.latents * 0.18215, latents, atol=1e-6)
    with refused("DATA-022", "mine.Batches[0]", "latents", "first batch", "images"):
        dataset(Latents())[request(0)]


def test_captions_are_needed_where_ids_are_made_anew_and_not_where_templates_write_them() -> None:
    class Ids:
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"images": GOOD["images"], "input_ids": IDS}

    with refused("DATA-022", "mine.Batches[0]", "input_ids", "--token_string", "captions"):
        dataset(Ids(), reread="--token_string")[request(0)]
    rewritten = dataset(Ids(), reread="--token_string", are_made=True, rewrite_caption=lambda text, rng: "a photo of zorb")
    assert rewritten[request(0)].captions == ("a photo of zorb",) * 2


def test_an_exception_of_the_class_is_one_line_that_says_where_it_was_raised() -> None:
    class Broken:
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"images": [][index]}

    source = CustomSource("mine.Broken", Broken(), __file__)
    with pytest.raises(UserError) as error:
        source.item(4, 0, 1, 2)
    line = Broken.__getitem__.__code__.co_firstlineno + 1
    names = ("IndexError: list index out of range", __file__, f"line {line}")
    refusals(error.value, ("DATA-021", "--dataset_class mine.Broken[4]", *names))


def test_the_streams_are_put_back_after_an_error_too() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(3):
        torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(state, torch.get_rng_state())


# ---- accumulation


class Uneven:
    """Batches of 4, 1, 1 and 2 images and so on, whose losses follow from their images."""

    sizes = (4, 1, 1, 2, 3)

    def __getitem__(self, index: int) -> dict[str, Any]:
        images = torch.full((self.sizes[index], 3, 8, 8), 0.1 * index) + torch.arange(self.sizes[index]).view(-1, 1, 1, 1) * 0.01
        return {"images": images, "captions": ["x"] * self.sizes[index]}


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("per_update", [1, 2])
def test_each_image_of_an_update_counts_the_same_though_only_the_class_knows_how_many_there_are(processes: int, per_update: int) -> None:
    data, count = dataset(Uneven()), len(Uneven.sizes)
    turns = [range(begin, min(begin + processes, count)) for begin in range(0, count, processes)]  # global batches of the sampler
    read = []  # by process, as `EpochSampler.share` divides them
    for process in range(processes):
        shares = [(turn[process], processes / len(turn)) if process < len(turn) else (turn[0], 0.0) for turn in turns]
        read.append([data[request(record, weight=weight)] for record, weight in shares])
    updates = range(0, len(turns), per_update)
    totals = [sum(Uneven.sizes[record] for turn in turns[begin : begin + per_update] for record in turn) for begin in updates]
    weighed = []
    for batches in read:
        means = iter([total / processes for total in totals])
        weighed.append(list(counted_by_images(batches, per_update, lambda images, means=means: next(means))))
    for begin, total in zip(updates, totals, strict=True):
        parts = [batch for mine in weighed for batch in mine[begin : begin + per_update]]
        mean = sum(float((batch.images.mean(dim=(1, 2, 3)) * batch.loss_weights).mean()) for batch in parts) / len(parts)
        images = [data[request(record)].images for turn in turns[begin : begin + per_update] for record in turn]
        assert sum(map(len, images)) == total
        assert mean == pytest.approx(float(torch.cat(images).mean()))


def test_batches_of_one_size_and_those_of_images_stay_as_they_are() -> None:
    data = dataset(Uneven())
    equal = [data[request(record)] for record in (1, 2, 1)]
    assert all(one is other for one, other in zip(counted_by_images(equal, 3, float), equal, strict=True))
    known = [replace(data[request(record)], whole_weight=None) for record in (0, 1)]
    assert all(one is other for one, other in zip(counted_by_images(known, 2, float), known, strict=True))


def test_the_images_of_a_batch_share_out_the_stratum_of_their_batch() -> None:
    class Three:
        def __len__(self) -> int:
            return 9

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"images": torch.zeros(3, 3, 8, 8), "captions": ["a"] * 3}

    (plain,) = request(4)
    batch = dataset(Three())[(replace(plain, stratum=(1, 5)),)]
    assert batch.strata is not None and sorted(batch.strata.tolist()) == [[3, 15], [4, 15], [5, 15]]
    assert dataset(Three())[request(4)].strata is None
