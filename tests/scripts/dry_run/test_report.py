"""--dry_run: 25 planted errors give 25 findings, each with its remedy, quickly and without torch; and the rest of its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import fine_tune
import train_textual_inversion
from library.errors import Problem, UserError
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.optim.choices import check_choices
from tests.messages import message, refusals
from tests.scripts.dry_run.starting import SUBSET, alone, described, dry, findings
from tests.scripts.faulty_dataset import EXPECTED, IMAGES, picture, write_faulty_dataset


def test_each_of_25_planted_faults_is_found_in_one_quick_run_without_torch(tmp_path: Path, tiny_v1: Path) -> None:
    config = write_faulty_dataset(tmp_path)
    dog, cups = (tmp_path.as_posix() + name for name in ("/dog", "/cups"))
    command = ["train_network", "--pretrained_model_name_or_path", str(tiny_v1), "--dataset_config", str(config)]
    command += ["--network_module", "networks.lora", "--output_dir", str(tmp_path / "out"), "--max_train_steps", "400"]
    facts, text = alone([*command, "--lr_scheduler", "cosin", "--v2", "--dry_run"])
    report = findings(text.replace(str(tmp_path), tmp_path.as_posix()).replace("\\", "/"))
    assert len(EXPECTED) == 25
    for (level, said, remedy), (expected_level, names, advice) in zip(report, EXPECTED, strict=False):
        assert level == expected_level and advice in remedy, (level, said, remedy)
        message(said, *(name.format(dog=dog, cups=cups) for name in names))
    assert len(report) == 25, "\n".join(map(str, report[25:]))
    assert text.splitlines()[-1] == "8 errors, 14 warnings, 3 notes"
    assert facts["codes"] == [2] and facts["heavy"] == []
    assert facts["cpu"] < 3.0, f"{facts['cpu']:.1f} s for {IMAGES} images"
    assert sum(one.suffix in (".jpg", ".png") for one in tmp_path.rglob("*")) == IMAGES
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("--optimizer_type AdamX --lr_scheduler cosin", (("OPT-013", "--optimizer_type AdamX"), ("OPT-014", "--lr_scheduler cosin"))),
        ("--optimizer_type no_such.Thing --lr_scheduler_type nope.Nope",
         (("PKG-004", "--optimizer_type", "no_such"), ("PKG-004", "--lr_scheduler_type", "nope"))),
        ("--lr_scheduler_type CosineAnealingLR", (("OPT-014", "--lr_scheduler_type CosineAnealingLR", "CosineAnnealingLR?"),)),
        ("--optimizer_type adamw8BIT --lr_scheduler Cosine", ()),
        ("--optimizer_type radam --lr_scheduler_type cosineannealinglr --lr_scheduler_args T_max=4", ()),
        ("--optimizer_type torch.optim.AdamW --lr_scheduler_type torch.optim.lr_scheduler.StepLR", ()),
        ("--optimizer_type transformers.optimization.Adafactor --lr_scheduler anything", ()),
        ("--optimizer_type AdaFactor --lr_scheduler anything", ()),
        ("--optimizer_type AdaFactor --optimizer_args relative_step=False --lr_scheduler other", (("OPT-014", "--lr_scheduler other"),)),
        ("--use_8bit_adam", ()),
    ],
)  # fmt: skip
def test_an_optimizer_or_schedule_that_does_not_exist_is_found_and_no_other_refused(
    options: str, asked: tuple[tuple[str, ...], ...]
) -> None:
    chosen = parse(TrainNetwork, options.split())
    problems: tuple[Problem, ...] = ()
    try:
        check_choices(chosen)
    except UserError as error:
        problems = error.problems
    refusals(problems, *asked)


def test_every_script_has_a_dry_run_that_leaves_torch_and_the_disk_alone(images: Path, tmp_path: Path, tiny_v1: Path) -> None:
    config, out = described(tmp_path, images), tmp_path / "out"
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({f"{n}": {"caption": f"my-word {n}", "tags": "a, b"} for n in range(6)}), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    shared = ["--pretrained_model_name_or_path", str(tiny_v1), "--output_dir", str(out), "--max_train_steps", "40", "--dry_run"]
    by_config = [*shared, "--dataset_config", str(config)]
    by_metadata = [*shared, "--train_data_dir", str(images), "--in_json", str(meta), "--resolution", "128", "--dataset_repeats", "3"]
    facts, text = alone(
        ["train_network", *by_config, "--network_module", "networks.lora"],
        ["train_db", *by_config],
        ["fine_tune", *by_metadata],
        ["train_textual_inversion", *by_config, "--token_string", "my-word"],
        ["train_textual_inversion_XTI", *by_metadata, "--token_string", "my-word", "--use_object_template"],
    )
    assert facts["codes"] == [0] * 5 and facts["heavy"] == []
    assert text.count("dry run: nothing is trained") == 5 and text.count("18 per epoch with repeats") == 5
    assert text.count("saves: at the end") == 5
    assert sorted(tmp_path.rglob("*")) == before


def test_figures_are_those_of_the_run(images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reg = tmp_path / "reg"
    reg.mkdir()
    for n in range(30):
        picture(50 + n, (160, 160)).save(reg / f"{n}.png")
    config = described(tmp_path, images)
    more = f"[[datasets.subsets]]\nimage_dir = '{reg}'\nclass_tokens = 'a dog'\nis_reg = true\n"
    config.write_text(config.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert dry(config, tiny_v1, tmp_path / "out", save_every_n_epochs=1, save_state=True, network_dim=2, save_precision="fp16") == 0
    text = capsys.readouterr().out
    for names in (
        ("regularization: 30 images", "18 per epoch", "12 unused"),
        ("128×128      32         24       24        0%       0%            0.0%  –",),
        ("160×96       2          6        6        0%     100%           10.3%  2.png 10%, 3.png 10%",),
        ("batches per epoch: 36",),
        ("updates: 144 = 4 epochs", "--max_train_epochs", "× 36"),
        ("saves: after epoch 1, 2, 3", "at the end"),
        ("files: 4 × 82 KiB",),
        ("states: 4 × 492 KiB",),
        ("dog: my-word 6, grass 6, number 0 1",),
    ):
        message(text, *names)
    ((level, said, _),) = findings(text)
    assert level == "warning"
    message(said, "12 of 30 regularization images")


def test_what_stands_in_the_way_of_the_results_is_told(
    images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "dog.safetensors").write_bytes(b"")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
    config = described(tmp_path, images)
    assert dry(config, tiny_v1, out, output_name="dog", network_dim=8, max_train_epochs=None, max_train_steps=7) == 0
    remedies = {said: remedy for _, said, remedy in findings(capsys.readouterr().out)}
    for remedy, names in zip(
        remedies.values(),
        (("--max_train_steps 18", "num_repeats"), ("free some space", "--save_last_n_epochs"), ("--output_name",)),
        strict=True,
    ):
        message(remedy, *names)
    message(list(remedies), "656 KiB", "97.7 KiB")


def test_a_config_that_cannot_be_read_does_not_hide_other_faults(tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "set.toml"
    config.write_text("[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dri = 'x'\n", encoding="utf-8")
    assert dry(config, tiny_v1, tmp_path / "out", network_module="networks.lara", v2=True) == 2
    printed = capsys.readouterr()
    said = [text for _, text, _ in findings(printed.out)]
    parts = ("networks.lara", "--v2", "image_dri", "image_dir is missing")
    assert len(said) == 4 and all(any(part in one for one in said) for part in parts)
    assert printed.out.endswith("\n4 errors, 0 warnings, 0 notes\n")
    refusals(printed.err.strip(), ("TRAIN-006", "--dry_run", "fix the errors"))


def test_a_misspelt_model_is_one_error(tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "set.toml"
    config.write_text("[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dri = 'x'\n", encoding="utf-8")
    wrong = tiny_v1.with_name(tiny_v1.name.replace("v1", "v7"))
    assert dry(config, wrong, tmp_path / "out") == 2
    said = [text for _, text, _ in findings(capsys.readouterr().out)]
    assert sum("v7" in text for text in said) == 1


def test_warnings_of_the_word_and_its_vectors_in_long_captions_are_in_the_report(
    images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "0.txt").write_text("a dog", encoding="utf-8")
    config, main = described(tmp_path, images), train_textual_inversion.main
    assert dry(config, tiny_v1, tmp_path / "out", main, token_string="my-word", num_vectors_per_token=72) == 0
    report = findings(capsys.readouterr().out)
    assert [level for level, _, _ in report] == ["warning", "warning"]
    message(report[0][1], "my-word", "1 of 6 captions")
    assert report[0][2] == "add it to them"
    message(report[1][1], "5 captions", "“, grass”")
    assert dry(config, tiny_v1, tmp_path / "out", main, token_string="my-word", num_vectors_per_token=70) == 0
    assert "captions are longer" not in capsys.readouterr().out


def test_a_caption_without_commas_does_not_fill_the_lists_of_tags(
    images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "0.txt").write_text("word " * 500, encoding="utf-8")
    page = tmp_path / "report.html"
    assert dry(described(tmp_path, images), tiny_v1, tmp_path / "out", report_html=page) == 0
    shown = ("word " * 12).rstrip()[:59] + "… 1"
    assert shown in capsys.readouterr().out.replace("</b>", "").replace("<b>", "")
    assert max(map(len, re.findall(r'<span class="tag">(.*?)</span>', page.read_text(encoding="utf-8")))) < 80


def test_brackets_around_several_tags_are_told_where_tags_move(
    images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "0.txt").write_text("my-word, (red, blue:1.2)", encoding="utf-8")
    for subset, weighted, count in ((SUBSET, True, 1), (SUBSET, False, 0), (SUBSET.replace("shuffle_caption = true", ""), True, 0)):
        assert dry(described(tmp_path, images, subset), tiny_v1, tmp_path / "out", weighted_captions=weighted) == 0
        assert capsys.readouterr().out.count("inside brackets") == count


def test_a_metadata_file_with_full_paths_is_enough_and_is_read(
    images: Path, tmp_path: Path, tiny_v1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = tmp_path / "meta.json"
    meta.write_text(json.dumps({(images / str(n)).as_posix(): {"tags": "a, b"} for n in range(6)}), encoding="utf-8")
    options = {"dataset_config": None, "in_json": meta, "resolution": 64}
    assert dry(tmp_path, tiny_v1, tmp_path / "out", fine_tune.main, **options) == 0
    message(capsys.readouterr().out, "6 images", "6 per epoch")
