"""Datasets of users' own, sound and faulty, and the command with one of them."""

from __future__ import annotations

from pathlib import Path

from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.planning.custom_dataset import CustomDataset, open_custom

CODE = '''
import random
from pathlib import Path

import torch

WORDS = "{words}"


class Batches:
    """{length} batches of one or two random pictures; what it was asked for goes to asked.txt."""

    def __init__(self, tokenizer, max_token_length, resolution, debug_dataset):
        assert type(tokenizer).__name__ == "CLIPTokenizer" and (max_token_length, resolution) == (None, (64, 48)), "the options' values"
        self.epoch = 0

    def __len__(self):
        return {length}

    def set_current_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        with Path("asked.txt").open("a", encoding="utf-8") as file:
            file.write(f"{{self.epoch}}:{{index}} ")
        count = 1 + index % 2
        generator = torch.Generator().manual_seed(index)
        size = (count, 3, 64, 48) if index % 2 else (count, 3, 48, 64)
        images = torch.rand(size, generator=generator) * 2 - 1
        if random.random() < 0.5 or torch.rand(()) < 0.5:
            images = images.flip(3)
        return {{"images": images, "captions": [f"{{WORDS}} {{index}} {{row}}" for row in range(count)]{more}}}


class Latents(Batches):
    def __getitem__(self, index):
        count = 1 + index % 2
        latents = torch.randn(count, 4, 6, 8, generator=torch.Generator().manual_seed(index))
        masks = torch.ones(count, 48, 64)
        return {{"latents": latents, "captions": ["a"] * count, "loss_weights": torch.full((count,), 0.5), "masks": masks, "extra": 1}}


class Grey(Batches):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | {{"images": batch["images"].abs()}}


class Wild(Latents):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | ({{"latents": batch["latents"] * 1e30}} if index == 3 else {{}})


class Handle(Batches):
    def __init__(self, *arguments):
        self.file = Path(__file__).open(encoding="utf-8")


class Failing(Batches):
    def __init__(self, *arguments):
        raise ValueError("there is no archive")


class Strange(Batches):
    def __init__(self, folder):
        pass


class Empty(Batches):
    def __len__(self):
        return 0


class Endless:
    def __getitem__(self, index):
        return {{}}


class Third(Batches):
    def __getitem__(self, index):
        batch = super().__getitem__(index)
        return batch | ({{"captions": []}} if index == 2 else {{}})
'''


def write_class(folder: Path, name: str = "my_batches", words: str = "a photo", length: int = 5, more: str = "") -> None:
    (folder / f"{name}.py").write_text(CODE.format(words=words, length=length, more=more), encoding="utf-8")


def parsed(name: str) -> TrainNetwork:
    """A command with the class."""
    argv = ["--pretrained_model_name_or_path", "m", "--output_dir", "out", "--network_module", "networks.lora", "--resolution", "64,48"]
    return parse(TrainNetwork, [*argv, "--dataset_class", name])


def opened(name: str) -> CustomDataset:
    """The class as a run opens it."""
    return open_custom(parsed(name))


def asked(folder: Path) -> list[tuple[int, int]]:
    """(epoch, index) of each batch in the order of asking; then forgets them."""
    file = folder / "asked.txt"
    pairs = [tuple(map(int, pair.split(":"))) for pair in file.read_text(encoding="utf-8").split()]
    file.unlink()
    return pairs
