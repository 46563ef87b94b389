"""--dataset_class before a run: what is refused, and what a dry run and --debug_dataset show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.messages import message, refusal, refusals, refused
from tests.scripts.dataset_class.classes import asked, opened
from tests.scripts.running import run_in_process
from tools import cache_latents

FAULTS = [
    ("my_batchs.Batches", ("DATA-020", "my_batchs", "my_batches?")),
    ("my_batches.Batchs", ("PKG-004", "my_batches", "Batchs", "Batches?")),
    ("my_batches", ("DATA-020", "'my_batches'", "my_data.Pairs")),
    ("my_batches.Failing", ("DATA-021", "ValueError: there is no archive", "my_batches.py, line")),
    ("my_batches.Strange", ("DATA-020", "(tokenizer, max_token_length, resolution, debug_dataset)")),
    ("my_batches.Empty", ("DATA-022", "its length is 0")),
    ("my_batches.Endless", ("DATA-020", "__len__")),
    ("broken.Batches", ("DATA-021", "broken", "NameError: name 'nothing' is not defined")),
    ("halved.Batches", ("DATA-021", "halved", "SyntaxError", "line 1")),
    ("needy.Batches", ("PKG-001", "needy", "pip install no_such_package")),
    ("json.Batches", ("DATA-020", "json", "rename your json.py")),
]


@pytest.mark.parametrize(("named", "asked"), FAULTS, ids=[named for named, _ in FAULTS])
def test_a_class_that_is_not_there_or_fails_is_told_in_a_line(command, folder: Path, capsys, named: str, asked: tuple[str, ...]) -> None:
    for name, text in (("broken", "nothing\n"), ("halved", "class\n"), ("needy", "import no_such_package\n"), ("json", "")):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    out = command("out", "--dataset_class", named, code=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, (*asked, "--dataset_class", named))
    assert not out.exists()


def test_what_cannot_be_pickled_is_refused_where_workers_start_afresh_and_only_there(folder: Path) -> None:
    own = opened("my_batches.Handle")
    own.check_can_be_sent(0, "spawn"), own.check_can_be_sent(2, "fork")
    with refused("DATA-023", "my_batches.Handle", "__getitem__"):
        own.check_can_be_sent(2, "spawn")
    own.source.dataset.file.close()
    opened("my_batches.Batches").check_can_be_sent(2, "spawn")
    with refused("DATA-023", "my_batches.Handle", "5 and 4 batches"):
        own.check_agrees([5, 4])


def test_a_dry_run_asks_for_every_batch_and_lists_what_is_wrong(command, folder: Path, capsys) -> None:
    out = command("out", "--dry_run")
    output = capsys.readouterr().out
    assert "5 batches per epoch" in output and "BUCKETS" not in output and not out.exists()
    message(output, "the run would start")
    message(output, "imported for this report")
    assert asked(folder) == [(1, 0), *((1, index) for index in range(5))]
    command("out", "--dry_run", "--dataset_class", "my_batches.Grey")
    message(capsys.readouterr().out, "my_batches.Grey[0]", "images", "0.00 to 1.00", "-1", "grey")
    command("out", "--dry_run", "--dataset_class", "my_batches.Third", code=2)
    message(capsys.readouterr().out, "--dataset_class my_batches.Third[2]", "captions", "0 entries")


def test_debug_dataset_shows_the_batches_and_trains_nothing(command, folder: Path) -> None:
    out = command("out", "--debug_dataset")
    assert [path.name for path in out.iterdir()] == ["dataset.html"]
    page = (out / "dataset.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 7 and "a photo 3 1" in page and "my_batches.Batches[3] image 1" in page


def test_options_about_images_that_nobody_reads_are_refused_together(command, capsys) -> None:
    more = ("--dataset_config", "x.toml", "--train_batch_size", 2, "--cache_latents", "--flip_aug", "--caption_dropout_rate", 0.1)
    more += ("--validation_split", 0.1, "--masked_loss", "--cache_text_encoder_outputs", "on", "--prior_loss_weight", 0.5)
    command("out", *more, code=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "--dataset_class" in line and line.endswith("[SD-OPT-008]")]
    assert len(lines) == 9 and all("remove it" in line for line in lines)


def test_the_latents_tool_has_nothing_to_do_for_a_class(folder: Path, capsys) -> None:
    assert run_in_process(cache_latents.main, "--dataset_class", "my_batches.Batches") == 2
    refusal(capsys.readouterr().err, "OPT-008", "--dataset_class")
