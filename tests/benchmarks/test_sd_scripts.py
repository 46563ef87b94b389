"""Whole commands beside sd-scripts' own: the bar is read right from the outside, and both sides get the same command."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import sd_scripts
from benchmarks.make_model import write
from benchmarks.rounds import ROOT, Job
from library.options.groups.scripts import SCRIPTS
from library.options.reading.parse import parse

JOB = Job("lora", 128, 2, "no", 4, True, False, "cpu", steps=4, warmup=2, model="small.safetensors")
BURNS = """
import sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
burn(0.4)
for n in range(5):
    sys.stderr.write(f"\\rsteps:  {20 * n}%|##   | {n}/4 [00:0{n}<00:01, loss=0.1]")
    sys.stderr.flush()
    burn(0.2 if n < 4 else 0.6)
sys.exit(int(sys.argv[1]))
"""


def test_costs_are_read_off_the_bar_from_the_outside():
    process = subprocess.Popen([sys.executable, "-c", BURNS, "0"], stderr=subprocess.PIPE)
    assert process.stderr is not None
    stamps, peak, _ = sd_scripts._watch(process, process.stderr)
    assert 0 < peak < 0.5
    updates = [stamp.updates for stamp in stamps]
    assert updates == sorted(updates) and updates[-1] == updates[-2] > updates[0]  # on a busy machine some are missed
    used = [stamp.cpu_seconds for stamp in stamps]
    assert used == sorted(used) and used[-1] > 1.5  # the process burns 1.8 s


def test_costs_are_those_between_the_stamps():
    stamps = [
        sd_scripts.Stamp(*each)
        for each in ((0, 1.0, 4.0), (1, 9.0, 9.0), (2, 10.0, 9.5), (4, 13.0, 10.5), (5, 14.0, 11.25), (5, 20.0, 13.0))
    ]
    assert sd_scripts._costs(stamps, 1) == (0.5, 4.0, 1.75)
    assert sd_scripts._seconds(stamps, 1) == (1.0, 1.5, 1.0)


def test_a_bar_of_another_kind_is_not_counted():
    assert sd_scripts.COUNTED.findall("caching: 50%|##  | 8/16 [00:01<00:01]\rsteps:  25%|#   | 3/12 [00:01<00:01, 1.0it/s]") == ["3"]


def test_a_side_that_fails_is_told(tmp_path):
    (tmp_path / "train_network.py").write_text("import sys; sys.exit('no such thing')", encoding="utf-8")
    with pytest.raises(RuntimeError, match="exit code 1: no such thing"):
        sd_scripts.Side(tmp_path).run(JOB, tmp_path / "place", tmp_path / "x.toml", [])


@pytest.mark.parametrize("method", sd_scripts.METHODS)
@pytest.mark.parametrize("text_encoder", [True, False])
def test_the_command_is_one_of_the_scripts_own(method, text_encoder, tmp_path):
    script, options = sd_scripts._command(replace(JOB, method=method, text_encoder=text_encoder), tmp_path, tmp_path / "x.toml")
    assert (ROOT / script).is_file()
    spec = next(spec for spec in SCRIPTS if spec.name == script)
    assert parse(spec, options).training.max_train_steps == 6


@pytest.mark.slow
def test_the_suite_beside_itself_has_the_same_losses_and_buckets(tmp_path):
    write(tmp_path / "small.safetensors", "v1", "small")
    ours, theirs = sd_scripts.compare(replace(JOB, model=str(tmp_path / "small.safetensors")), sd_scripts.Side(Path(ROOT)), 1)
    assert ours[0].losses == theirs[0].losses and len(ours[0].losses) == 6
    assert ours[0].buckets == theirs[0].buckets and len(ours[0].buckets[0]) > 1
    assert "| buckets | equal |" in sd_scripts.text(ours, theirs)
