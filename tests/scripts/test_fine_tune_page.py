"""The workflow of docs/fine_tune.md with latents made in advance, run as on the page, both ways."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import fine_tune
from finetune import prepare_buckets_latents
from tests.data.material import photo
from tests.messages import message
from tests.scripts.running import run_in_process, tensors_equal

PAGE = Path(__file__).parents[2] / "docs" / "fine_tune.md"
MODEL = "v1-5-pruned-emaonly.safetensors"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Prepared latents")[2].partition("\n## ")[0]


def commands() -> list[list[str]]:
    """The commands of the section, each from its script on."""
    blocks = re.findall(r"^```\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    words = [shlex.split(block.replace("\\\n", " ")) for block in blocks]
    return [line[next(place for place, word in enumerate(line) if word.endswith(".py")) :] for line in words]


@pytest.fixture
def place(tmp_path: Path, tiny_v1: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes for granted; images of three shapes."""
    monkeypatch.chdir(tmp_path)
    for number, size in enumerate(((300, 100), (128, 128), (100, 300))):
        photo(tmp_path / "pictures" / f"{number}.png", size, seed=number)
    (tmp_path / "meta.json").write_text(json.dumps({str(n): {"caption": f"tram {n}"} for n in range(3)}), encoding="utf-8")
    (tmp_path / MODEL).symlink_to(tiny_v1)
    (tmp_path / "prepared.toml").write_text(re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)[0], encoding="utf-8")
    return tmp_path


def small(words: list[str]) -> list[str]:
    """The command for a model and images that a test can train, without what a CPU does not know."""
    values = {"512,512": "128,128", "bf16": "no", "8": "2"}
    extra = (
        ["--min_bucket_reso", "64", "--max_bucket_reso", "256"]
        if words[0].startswith("finetune")
        else ["--seed", "1", "--learning_rate", "1e-3"]
    )
    return [*(values.get(word, word) for word in words[1:]), *extra, "--max_data_loader_n_workers", "0"]


def test_the_workflow_of_the_page_trains_prepared_latents_both_ways(place: Path, capsys: pytest.CaptureFixture) -> None:
    prepare, train = commands()
    assert (prepare[0], train[0]) == ("finetune/prepare_buckets_latents.py", "fine_tune.py")
    assert run_in_process(prepare_buckets_latents.main, *small(prepare)) == 0
    sizes = {tuple(entry["train_resolution"]) for entry in json.loads((place / "meta_latents.json").read_text(encoding="utf-8")).values()}
    assert len(sizes) == 3 and all((place / "pictures" / f"{n}{end}.npz").is_file() for n in range(3) for end in ("", "_flip"))
    with_config = [word for word in train if word not in ("--in_json", "meta_latents.json", "pictures", "--train_batch_size", "4")]
    with_config[with_config.index("--train_data_dir")] = "--dataset_config"
    with_config.insert(with_config.index("--dataset_config") + 1, "prepared.toml")
    for path in (place / "pictures").glob("*.png"):
        path.unlink()  # so that nothing but the latents can be trained
    outputs = []
    for words, name in ((train, "line"), (with_config, "config")):
        capsys.readouterr()
        assert run_in_process(fine_tune.main, *small(words), "--output_name", name) == 0
        output = capsys.readouterr().err
        message(output, "latents: 3 of 3", "on disk")
        message(output, "as prepared", "train_resolution", "meta_latents.json")
        assert all(f"bucket {width}×{height}: 1 per epoch" in output for width, height in sizes)
        outputs.append(place / "output" / f"{name}.safetensors")
    assert tensors_equal(*outputs)


def test_subsets_that_were_not_prepared_are_encoded_beside_those_that_were(place: Path, capsys: pytest.CaptureFixture) -> None:
    prepare, train = commands()
    assert run_in_process(prepare_buckets_latents.main, *small(prepare)) == 0
    photo(place / "others" / "a.png", (128, 128), seed=9)
    (place / "others.json").write_text(json.dumps({"a": {"caption": "another"}}), encoding="utf-8")
    config = (place / "prepared.toml").read_text(
        encoding="utf-8"
    ) + "[[datasets.subsets]]\nimage_dir = 'others'\nmetadata_file = 'others.json'\n"
    (place / "both.toml").write_text(config.replace("[[datasets]]\n", "[[datasets]]\nresolution = 64\n"), encoding="utf-8")
    words = ["--dataset_config", "both.toml", *train[train.index("--output_dir") :], "--pretrained_model_name_or_path", MODEL]
    assert run_in_process(fine_tune.main, *small(["fine_tune.py", *words])) == 0
    output = capsys.readouterr().err
    message(output, "latents: encoding 1 image", "memory")
    assert "bucket 64×64: 1 per epoch" in output and "bucket 128×128: 1 per epoch" in output
