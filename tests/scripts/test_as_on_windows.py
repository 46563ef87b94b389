"""Scripts in separate processes under the conditions of Windows: an output that knows one script of letters, workers that are started
afresh, no POSIX, files in use that stay (`tests/windows_site`); and names that are no Unicode, as zip archives of such systems give them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import train_network
from library.data.scan import scan_index
from tests.messages import refusal
from tests.scripts.starting import start

ROOT = Path(__file__).parents[2]
NAME = "고양이 ねこ"
OPTIONS = (
    *("--pretrained_model_name_or_path", "모델.safetensors", "--train_data_dir", "그림 猫 🐈", "--resolution", "64"),
    *("--output_name", NAME, "--output_dir", "출력 🎁", "--network_module", "networks.lora", "--network_dim", "2"),
)
CAPTION = f"{NAME} cat № žß 🐈"


@dataclass(frozen=True)
class Work:
    """A folder with a model and images of many letters."""

    folder: Path

    def run(self, codec: str, script: str, *argv: str) -> tuple[int, str]:
        """Exit code, and what was written to an output of this encoding that is a file."""
        settings = {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "windows_site"), str(ROOT)]),
            "SD_TESTS_FOLDER": str(self.folder),
            "SD_TESTS_CODEC": codec,
            "PYTHONUTF8": "0",
            "PYTHONIOENCODING": codec,
        }
        said = self.folder.parent / "said.txt"  # the rules do not apply to it: the shell has it open
        with said.open("wb") as file:
            command = [sys.executable, "-X", "warn_default_encoding", str(ROOT / script), *argv]
            done = subprocess.run(command, cwd=self.folder, env=os.environ | settings, stdout=file, stderr=subprocess.STDOUT, check=False)
        return done.returncode, said.read_bytes().decode(codec)

    @property
    def out(self) -> Path:
        return self.folder / "출력 🎁"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    from tests.small_models import write_checkpoint

    folder = tmp_path_factory.mktemp("windows") / "work"
    images = folder / "그림 猫 🐈" / f"2_{NAME}"
    images.mkdir(parents=True)
    write_checkpoint(folder / "모델.safetensors", "v1")
    for number in range(2):
        Image.effect_mandelbrot((96, 80), (-2 + number, -1, 1, 1), 20).convert("RGB").save(images / f"사진 絵 é{number} 🐾.png")
        (images / f"사진 絵 é{number} 🐾.caption").write_text(CAPTION + "\r\n", encoding="utf-8-sig", newline="")
    (folder / "prompts.txt").write_bytes(f"\ufeff{CAPTION} --w 64 --h 64 --s 1\r\n".encode())
    return Work(folder)


def test_a_run_with_a_fresh_worker_goes_on_later_and_a_tool_reads_its_product(work: Work) -> None:
    more = ("--max_data_loader_n_workers", "1", "--save_state", "--cache_latents_to_disk", "--cache_latents", "--logging_dir", "기록",
            "--sample_prompts", "prompts.txt", "--sample_every_n_steps", "1", "--training_comment", "좋다 🎉")  # fmt: skip
    code, said = work.run("cp949", "train_network.py", *OPTIONS, *more, "--max_train_steps", "1")
    assert code == 0 and "그림 猫 \\U0001f408" in said, said
    assert "Traceback" not in said and f"saved 출력 \\U0001f381{os.sep}{NAME}.safetensors" in said
    code, said = work.run(
        "cp932", "train_network.py", *OPTIONS, "--max_data_loader_n_workers", "0", "--save_state", "--resume", f"출력 🎁/{NAME}-state",
        "--max_train_steps", "2", "--network_weights", f"출력 🎁/{NAME}.safetensors",
    )  # fmt: skip
    assert code == 0 and "update 1 done" in said and "in use by" not in said, said

    events = [json.loads(line) for line in (work.out / "events.jsonl").read_bytes().decode("utf-8").splitlines()]
    assert {event["run"] for event in events} == {NAME} and [event["step"] for event in events if event["event"] == "update"] == [1, 2]
    assert json.loads((work.out / f"{NAME}.run.json").read_bytes())["options"]["train_data_dir"]["value"] == "그림 猫 🐈"
    assert CAPTION in (work.out / "sample" / "index.html").read_bytes().decode("utf-8")
    code, said = work.run("cp1252", "tools/show_metadata.py", "--model", f"출력 🎁/{NAME}.safetensors", "--json")
    assert code == 0 and json.loads(said)["ss_output_name"] == NAME, said


@pytest.mark.parametrize("codec", ["cp949", "cp932", "cp1252"])
def test_reports_pages_and_faults_are_told_on_every_output(work: Work, codec: str) -> None:
    report = f"보고 {codec} ✓.html"
    code, said = work.run(codec, "train_network.py", *OPTIONS, "--max_train_steps", "2", "--dry_run", "--report_html", report)
    assert code == 0 and "0 errors" in said, said
    assert CAPTION in (work.folder / report).read_bytes().decode("utf-8")
    code, said = work.run(codec, "train_network.py", *OPTIONS, "--max_train_steps", "1", "--vae", "없는 ない 🐈.pt", "--resolution", "64")
    assert code == 2 and "Traceback" not in said and "error: --vae" in said, said


def test_every_line_of_help_is_printed_on_every_output(work: Work) -> None:
    for codec, script in (("cp949", "train_network.py"), ("cp932", "networks/merge_lora.py"), ("cp1252", "finetune/make_captions.py")):
        code, said = work.run(codec, script, "--help")
        assert code == 0 and "Traceback" not in said, said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give no file such a name")
def test_names_that_are_no_unicode_train_like_others(tiny_v1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A zip made in the Explorer of a Korean Windows and unpacked in a notebook has names in cp949."""
    monkeypatch.setattr(scan_index, "FEWEST", 1)
    monkeypatch.setattr(scan_index, "_SETTLED", -(10**12))
    folder = tmp_path / os.fsdecode("그림".encode("cp949"))
    images = folder / "2_cat"
    images.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 64), (number * 90, 60, 120)).save(images / "x.png")
        (images / "x.png").rename(images / os.fsdecode(f"사진{number}.png".encode("cp949")))
    common = {
        "pretrained_model_name_or_path": tiny_v1,
        "train_data_dir": folder,
        "resolution": 64,
        "output_dir": tmp_path / "out",
        "network_module": "networks.lora",
        "max_train_steps": 1,
        "max_data_loader_n_workers": 0,
        "cache_latents": True,
        "cache_latents_to_disk": True,
        "seed": 1,
    }
    for more in ({"dry_run": True, "report_html": tmp_path / "report.html"}, {"debug_dataset": True}, {"save_state": True}):
        assert start(train_network.main, **common, **more) == 0
    assert start(train_network.main, **common, resume=tmp_path / "out" / "last-state") == 2  # which ended: the state is read
    assert "\\udcbb\\udce7" in (tmp_path / "report.html").read_text("utf-8")
    names = json.loads((images / scan_index.NAME).read_text("utf-8"))["Header"]
    assert set(names) == {path.name for path in images.glob("*.png")}
    images.rename(folder / os.fsdecode("2_고양이".encode("cp949")))
    assert start(train_network.main, **common) == 2
    refusal(capsys.readouterr().err, "DATA-025", "encoding")
