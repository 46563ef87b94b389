"""The columns of tools/compare_networks.py: which files, in which order, under which names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from library.generation.checks import NetworkChoice
from library.generation.comparing.cells import Column
from library.generation.comparing.columns import in_order, labels_of, network_files
from library.generation.comparing.grid import title_of
from tests.messages import refused


def test_epochs_stand_in_their_order_and_the_last_file_at_the_end() -> None:
    names = "dog dog-000010 dog-000002 cat-step00000100 cat-step00000020 cat v10 v9".split()
    stems = [path.stem for path in in_order(Path(f"{name}.safetensors") for name in names)]
    assert stems == "cat-step00000020 cat-step00000100 cat dog-000002 dog-000010 dog v9 v10".split()


def test_epochs_and_steps_of_a_run_stand_in_order_of_time_if_all_files_name_their_update(tmp_path: Path) -> None:
    for name, updates in (("dog-000006", 38), ("dog-step00000014", 14), ("dog-000001", 18), ("dog", 42)):
        save_file({"a.b": torch.zeros(1)}, tmp_path / f"{name}.safetensors", {"ss_steps": str(updates)})
    names = [str(tmp_path / "dog*.safetensors")]
    assert [file.stem for file in network_files(names)] == "dog-step00000014 dog-000001 dog-000006 dog".split()
    save_file({"a.b": torch.zeros(1)}, tmp_path / "dog-000002.safetensors")
    assert [file.stem for file in network_files(names)] == "dog-000001 dog-000002 dog-000006 dog-step00000014 dog".split()


def test_patterns_are_expanded_here_and_every_file_comes_once(epochs: Path) -> None:
    files = network_files([str(epochs / "dog-0000*.safetensors"), str(epochs / "dog-000010.safetensors")])
    assert [path.name for path in files] == ["dog-000002.safetensors", "dog-000010.safetensors"]
    odd = epochs / "dog[1].safetensors"
    shutil.copy(epochs / "dog.safetensors", odd)
    assert network_files([str(odd)]) == [odd]  # a file of that very name is no pattern
    with refused("PATH-001", "--networks", epochs / "cat*"):
        network_files([str(epochs / "cat*")])


def test_a_words_file_beside_its_networks_gets_no_column(epochs: Path) -> None:
    """As pivotal tuning leaves it: a pattern passes it by, its own name is a mistake."""
    word = epochs / "dog-my-dog.safetensors"
    save_file({"emb_params": torch.ones(1, 64)}, word)
    assert word not in network_files([str(epochs / "dog*.safetensors")])
    with refused("LORA-001", "--networks", word, "embedding"):
        network_files([str(word)])
    with refused("PATH-001", "--networks", "embeddings"):
        network_files([str(epochs / "*my-dog*")])
    word.unlink()


def test_the_heading_counts_files_and_the_model_without_them_separately() -> None:
    without = Column(None, 0.0, "without network")
    a, b = (Column(NetworkChoice(Path(f"{name}.safetensors")), strength, name) for name, strength in (("a", 0.5), ("b", 1.0)))
    assert title_of([a, replace(a, strength=1.0)]) == "1 file compared"
    assert title_of([without, a, b]) == "2 files compared, and the model without them"
    assert title_of([without, a]) == "1 file compared, and the model without it"


def test_files_of_the_same_name_are_told_apart_by_their_folders() -> None:
    assert labels_of([Path("a/dog.safetensors"), Path("b/dog.safetensors")]) == ["a/dog", "b/dog"]
    assert labels_of([Path("a/dog.safetensors"), Path("b/cat.safetensors")]) == ["dog", "cat"]
