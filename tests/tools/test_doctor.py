"""tools/doctor.py as a user starts it: a sound machine, a broken torch, a command, a report."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor import fakes
from tests.doctor.fakes import ROOT, doctor, lines_of
from tests.messages import message

POSIX = os.name == "posix"


def test_sound_machine_has_no_fault_and_ends_with_0() -> None:
    code, text = doctor(OMP_NUM_THREADS="1")
    assert lines_of(text, "error") == []
    assert code == 0 and text.rstrip().endswith("no problem found")
    message(lines_of(text, "ok"), "cpu", "float32, bfloat16, float16")
    message(lines_of(text, "ok"), "AdamW8bit", "cpu")


@pytest.mark.parametrize(
    ("breakage", "names"),
    [
        (fakes.LOADS_NOT, ("torch", "OSError: [WinError 126]", "Visual C++")),
        (fakes.ENDS, ("torch", "exit code 3", "Get started")),
        pytest.param(fakes.KILLS, ("torch", "SIGABRT", "Get started"), marks=pytest.mark.skipif(not POSIX, reason="signals")),
    ],
)
def test_broken_torch_is_one_line_with_a_remedy_and_what_stands_on_it_is_not_blamed(
    breakage: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    fakes.package(tmp_path, "torch", breakage)
    code, text = doctor(packages=tmp_path)
    (line,) = lines_of(text, "error")
    message(line, *names)
    assert code == 1


@pytest.mark.skipif(not POSIX, reason="the stand-in for nvidia-smi is a shell script")
def test_cpu_build_beside_a_card_is_a_fault(tmp_path: Path) -> None:
    fakes.program(tmp_path, "nvidia-smi", "echo '580.65.06, NVIDIA GeForce RTX 3060'")
    import torch

    if torch.version.cuda:
        pytest.skip("this PyTorch is built for cards")
    code, text = doctor(programs=tmp_path)
    (line,) = lines_of(text, "error")
    message(line, "CPU only", "NVIDIA GeForce RTX 3060", "Get started")
    assert code == 1


def test_mistyped_option_of_the_command_is_one_line() -> None:
    code, text = doctor("--", "accelerate", "launch", "--quiet", "train_network.py", "--ouput_dir", "out")
    (line,) = lines_of(text, "error")
    message(line, "--ouput_dir", "--output_dir?")
    assert code == 1


def test_doctor_starts_and_says_what_is_missing_where_nothing_but_python_is_installed() -> None:
    """-S leaves out the installed packages, -I what PYTHONPATH names."""
    command = [sys.executable, "-I", "-S", str(ROOT / "tools" / "doctor.py"), "train_network.py", "--config_file", "no.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and done.stderr == ""
    assert any("packaging is missing" in line or "torch is missing" in line for line in lines_of(done.stdout, "error"))


def test_report_tells_versions_and_findings_and_nothing_of_the_user(tmp_path: Path) -> None:
    home = tmp_path / "Joe Smith"
    (home / "my pictures").mkdir(parents=True)
    config = home / "dog.toml"
    config.write_text("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone pictures'\nclass_tokens = 'a'\n", encoding="utf-8")
    words = f"""train_network.py --network_module networks.lora --pretrained_model_name_or_path owner/model --output_dir
        {home}/out --dataset_config {home}/dog.toml --huggingface_token hf_verysecret"""
    argv = [word.replace("Joe.Smith", "Joe Smith") for word in words.replace("Joe Smith", "Joe.Smith").split()]
    fakes.package(tmp_path / "broken", "torch", f"raise ImportError('{home.as_posix()}/lib/libtorch.so: undefined symbol')")
    code, text = doctor("--report", "--", *argv, packages=tmp_path / "broken", HOME=str(home), USERPROFILE=str(home), USER="Joe Smith")
    assert code == 1
    assert "command: train_network.py --network_module --pretrained_model_name_or_path --output_dir --dataset_config" in text
    message(lines_of(text, "error"), "torch", "ImportError")
    assert any("does not exist" in line for line in lines_of(text, "error"))
    for private in ("Joe", "Smith", "verysecret", str(tmp_path), str(ROOT), "dog.toml", "gone", socket.gethostname()):
        assert private not in text, private
    assert getpass.getuser() not in text.replace("root", "") or getpass.getuser() == "root"
