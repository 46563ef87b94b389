"""A damaged or malicious .ckpt is told in one line, asks for no memory and takes no time."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from library.containers.pickles import LEGACY_MAGIC
from library.containers.weights_file import open_weights
from tests.lying.data_files import write_packed
from tests.lying.modules import KEY
from tests.lying.pickles import BOMBS, LYING_TENSORS, damaged_zips, stored_tensor, write_pickle
from tests.lying.readers import (
    AGAIN,
    PICKLE_READERS,
    told,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("reader", PICKLE_READERS)
def test_a_damaged_zip_file_is_told_by_every_reader(reader: str, tmp_path: Path) -> None:
    module = {f"{KEY}.lora_down.weight": torch.ones(4, 64), f"{KEY}.lora_up.weight": torch.ones(64, 4)}
    torch.save(module, tmp_path / "sound.ckpt")
    PICKLE_READERS["weights"](tmp_path / "sound.ckpt")
    path = tmp_path / "x.ckpt"
    for case, content in damaged_zips((tmp_path / "sound.ckpt").read_bytes()).items():
        path.write_bytes(content)
        line = told(PICKLE_READERS[reader], path, case)
        if reader not in ("model", "embedding"):  # these need not read a file that is of another kind
            assert AGAIN in line and ("damaged" in line or "truncated" in line), f"{case}: {line}"


def test_a_file_that_asks_for_more_than_it_can_have_gets_nothing(tmp_path: Path) -> None:
    """In a process of its own, in which nothing else takes memory: each is refused in under 2 s, all in less than 200 MB."""
    for number, code in enumerate(BOMBS.values()):
        write_pickle(tmp_path / f"{number}.ckpt", code)
        if len(code) < 1 << 20:
            old = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {}))
            (tmp_path / f"{number}.old.ckpt").write_bytes(old + code)
    bomb = zlib.compressobj(9, wbits=-15)
    packed = b"".join([bomb.compress(b"]" * (1 << 20)) for _ in range(256)]) + bomb.flush()
    for claimed in (256 << 20, 1000):
        write_packed(tmp_path / f"packed.{claimed}.ckpt", "archive/data.pkl", packed, claimed)
    done = subprocess.run([sys.executable, "-c", _READ_ALL, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["seconds"]) == len(list(tmp_path.iterdir())) and max(found["seconds"].values()) < 2, found
    assert found["peak"] is None or found["peak"] < 200e6, found


_READ_ALL = """
import json, sys, time
from pathlib import Path
from library.containers.weights_file import open_weights
from library.errors import UserError
seconds = {}
for path in Path(sys.argv[1]).iterdir():
    begun = time.process_time()
    try:
        open_weights(path, "--x")
        raise SystemExit(f"{path} was read")
    except UserError:
        seconds[path.name] = time.process_time() - begun
status = Path("/proc/self/status")
peak = next((int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line), None) if status.exists() else None
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


@pytest.mark.parametrize("case", LYING_TENSORS)
def test_a_tensor_that_is_not_in_its_storage_is_told_before_it_is_read(case: str, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.ckpt", LYING_TENSORS[case], **{"0": b"\0" * 64})
    assert AGAIN in told(lambda path: open_weights(path, "--x"), path, case)


def test_the_same_tensors_in_their_storage_are_read(tmp_path: Path) -> None:
    numbers = torch.arange(16.0)
    for shape, stride, offset in (((4, 4), (4, 1), 0), ((4,), (1,), 12), ((2, 3), (0, 1), 4), ((0, 5), (5, 1), 0), ((), (), 3)):
        path = write_pickle(tmp_path / "x.ckpt", stored_tensor(shape, stride, offset), **{"0": numbers.numpy().tobytes()})
        file = open_weights(path, "--x")
        ((_, tensor),) = file.read(["a"])
        assert torch.equal(tensor, numbers.as_strided(shape, stride, offset)), shape
