"""Kills runs at random file operations and moments, goes on from what is left, and compares the end with a run that nothing disturbed.

    python -m tests.attack.killing --kills 200          counts, and each fault with what repeats it

A server that has imported everything forks a child for each run, so that a run costs about a second. POSIX only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = 8  # files: four images with captions
LONGEST = 240.0  # seconds of a run; one that takes longer hangs
OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "fsync", "half a record")


@dataclass(frozen=True)
class Kill:
    """`operation` counts those that change something below a folder; the child kills itself just before that one. Else `after` seconds, or
    just before the line of an event is written: `line` is "saved_state 2"."""

    operation: int | None = None
    after: float | None = None
    line: str | None = None


NEVER = Kill()


# ---- the server's side


def serve() -> None:
    """Answer requests, JSON lines of `ForkServer.run`, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(request)
        code = _wait(child, request["after"])
        answers.write(json.dumps({"code": code, "seconds": time.monotonic() - began}) + "\n")
        answers.flush()


def _import_everything() -> None:
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    for name in ("diffusers", "transformers", "accelerate", "psutil", "tensorboard.summary.writer.record_writer", "PIL.PngImagePlugin"):
        importlib.import_module(name)
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    assert AutoencoderKL and DDIMScheduler and UNet2DConditionModel and CLIPTextModel
    for path in sorted((ROOT / "library" / "training").rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


def _wait(child: int, after: float | None) -> int | None:
    """The exit code, negative for a signal; None where the child had to be ended because it hangs."""
    until = time.monotonic() + (LONGEST if after is None else after)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return None if after is None else os.waitstatus_to_exitcode(status)
        time.sleep(0.002)


def _run(request: Mapping[str, Any]) -> None:
    """In the child: the script with its arguments, counting operations and killing itself at one of them."""
    try:
        handle = os.open(request["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
        counted = _count_operations(request["folder"], request["operation"])
        _kill_before(request["line"])
        if request["prepare"]:
            module, _, name = request["prepare"][0].partition(":")
            getattr(importlib.import_module(module), name)(request["prepare"][1])
        from library.console import run_script

        code = run_script(importlib.import_module(request["script"]).main, request["argv"])
        Path(request["told"]).with_suffix(".count").write_text(str(counted[0]), encoding="utf-8")
        sys.stdout.flush()
        os._exit(code)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(99)


def _count_operations(folder: str, kill_at: int | None) -> list[int]:
    """Counts operations below `folder` that change something there; at number `kill_at`, from 1, the process kills itself instead."""
    from library.telling.appended import AppendedFile

    counted = [0]

    def count(what: object) -> bool:
        """Whether this one is to be the last."""
        if isinstance(what, str | os.PathLike) and os.fspath(what).startswith(folder):
            counted[0] += 1
            return counted[0] == kill_at
        return False

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and count(path):
                end()
        elif event in OPERATIONS and count(arguments[0]):
            end()

    real_fsync, real_write = os.fsync, AppendedFile._write

    def fsync(handle: int) -> None:
        link = Path(f"/proc/self/fd/{handle}")
        if count(link.readlink() if link.is_symlink() else folder):
            end()
        real_fsync(handle)

    def write(self: AppendedFile, record: bytes) -> None:
        if count(self.path):
            self._opened().write(record[: len(record) // 2])
            end()
        real_write(self, record)

    os.fsync = fsync
    AppendedFile._write = write  # type: ignore[method-assign]
    sys.addaudithook(hear)
    return counted


def _kill_before(line: str | None) -> None:
    """The process kills itself before it writes an event's line."""
    from library.training.logs.event_log import EventLog

    real = EventLog.write

    def write(self: EventLog, event: str, step: int, values: Mapping[str, Any]) -> None:
        if f"{event} {step}" == line:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, event, step, values)

    EventLog.write = write  # type: ignore[method-assign]


# ---- the client's side


@dataclass(frozen=True)
class Ended:
    """How a run ended: `code` is negative for a signal, None for a run that hung."""

    code: int | None
    seconds: float
    told: str
    operations: int = 0


class ForkServer:
    """`run` has the server run a script in a child of its own."""

    def __init__(self, told: Path) -> None:
        environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._told = told
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.killing", "--serve"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(
        self, script: str, options: Mapping[str, object], folder: Path, kill: Kill = NEVER, prepare: tuple[str, object] | None = None
    ) -> Ended:
        """Run `script` with `options`; operations below `folder` count. `prepare`: a function, as module:name, that the child calls with
        what stands behind it before it begins."""
        argv: list[str] = []
        for name, value in options.items():
            if value is not None and value is not False:
                values = value if isinstance(value, list) else [value]
                argv += [f"--{name}", *([] if value is True else map(str, values))]
        told, counts = self._told, self._told.with_suffix(".count")
        for path in (told, counts):
            path.unlink(missing_ok=True)
        request = {"script": script, "argv": argv, "folder": str(folder), "told": str(told), "prepare": prepare, **vars(kill)}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        text = told.read_text(encoding="utf-8", errors="replace") if told.exists() else ""
        operations = int(counts.read_text(encoding="utf-8")) if counts.exists() else 0
        return Ended(answer["code"], answer["seconds"], text, operations)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def fork_server(folder: Path) -> Iterator[ForkServer]:
    """A server that is ended afterwards; what runs say lies in `folder`."""
    server = ForkServer(folder / "told.txt")
    try:
        yield server
    finally:
        server.close()


@dataclass
class Counts:
    """What an attack found; `faults` say what is wrong and what repeats it."""

    kills: Counter[str] = field(default_factory=Counter)  # that met a living run, by script
    late: int = 0  # runs that were through before
    ends: int = 0  # runs brought to their end and compared
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The figures for people."""
        listed = ", ".join(f"{script} {number}" for script, number in sorted(self.kills.items()))
        lines = [f"{self.kills.total()} kills ({listed}), {self.late} came too late; {self.ends} ends compared; {len(self.faults)} faults"]
        return "\n".join([*lines, *self.faults])


def attack(server: ForkServer, folder: Path, kills: int, seed: int, scripts: Mapping[str, Mapping[str, object]]) -> Counts:
    """Kill until `kills` have met a living run, over all `scripts` (name: options) in turn."""
    from tests.attack.kill_checks import compare, share_left, unreadable

    chance, counts = random.Random(seed), Counts()
    updates = int(str(next(iter(scripts.values()))["max_train_steps"]))
    wholes: dict[str, tuple[Path, Ended]] = {}
    for number in range(kills * 4):
        if counts.kills.total() >= kills:
            break
        script = sorted(scripts)[number % len(scripts)]
        if script not in wholes:
            place = folder / f"{script}-whole"
            whole = server.run(script, options_in(script, scripts[script], place), place)
            if whole.code != 0:
                counts.faults.append(f"{script}: the undisturbed run ended with {whole.code}: {whole.told[-2000:]}")
                return counts
            wholes[script] = place, whole
        undisturbed, whole = wholes[script]
        place, history = folder / f"{script}-{number}", []
        for _ in range(chance.randrange(1, 4)):
            kill = _drawn(chance, whole, share_left(place / "out", updates))
            ended = server.run(script, options_in(script, scripts[script], place), place, kill)
            history.append(kill)
            repeat = f"seed {seed}, round {number}, {script}, {history}"
            if ended.code == -signal.SIGKILL:
                counts.kills[script] += 1
            elif is_through(ended):
                counts.late += 1
                break
            elif ended.code != 0:
                counts.faults.append(f"{repeat}: a run ended with {ended.code}: {ended.told[-1500:]}")
                break
            else:
                counts.late += 1
            counts.faults += [f"{repeat}: {fault}" for fault in unreadable(place)]
            if ended.code == 0:
                break
        else:
            ended = server.run(script, options_in(script, scripts[script], place), place)
            if ended.code != 0 and not is_through(ended):
                counts.faults.append(f"{repeat}: the resumed run ended with {ended.code}: {ended.told[-1500:]}")
                continue
        counts.ends += 1
        counts.faults += [f"{repeat}: {fault}" for fault in compare(undisturbed, place, is_through(ended))]
        shutil.rmtree(place)
    return counts


def is_through(ended: Ended) -> bool:
    """Whether the run has refused to go on because the one before was killed after its last state."""
    return ended.code == 2 and "nothing is left to train" in ended.told


def _drawn(chance: random.Random, whole: Ended, left: float) -> Kill:
    """Operations twice as often as moments: those are what leaves files half done. `left` is the share of a run that is still to do."""
    if chance.random() < 0.67:
        return Kill(operation=chance.randrange(1, max(2, round(whole.operations * left))))
    return Kill(after=chance.uniform(0.0, whole.seconds * left))


def options_in(script: str, options: Mapping[str, object], place: Path) -> dict[str, object]:
    """Those of a run in `place`, from the newest state there if there is one; its images are copied there, so that caches are its own."""
    from tests.attack.kill_checks import newest_state

    images = place / "images"
    if not images.exists():
        images.mkdir(parents=True)
        for path in sorted(Path(str(options["images"])).glob("*.*"))[:IMAGES]:
            shutil.copy(path, images)
        lines = ["[[datasets]]", "resolution = 64", "batch_size = 2", "[[datasets.subsets]]", f"image_dir = '{images}'", "flip_aug = true"]
        if script == "fine_tune":
            entries = {path.stem: {"caption": f"a photo of {path.stem}"} for path in images.iterdir() if path.suffix == ".jpg"}
            (place / "meta.json").write_text(json.dumps(entries), encoding="utf-8")
            lines.append(f"metadata_file = '{place / 'meta.json'}'")
        (place / "data.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = {name: value for name, value in options.items() if name != "images"}
    return {
        **given, "dataset_config": place / "data.toml", "output_dir": place / "out", "logging_dir": place / "logs",
        "resume": newest_state(place / "out"),
    }  # fmt: skip


def scripts_of(model: Path, photos: Path, prompts: Path, updates: int = 4) -> dict[str, dict[str, object]]:
    """The options of the five scripts on a small model."""
    prompts.write_text("a cat --d 1 --w 64 --h 64 --s 1 --l 1\na dog --d 2 --w 64 --h 64 --s 1 --l 1\n", encoding="utf-8")
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model, "images": photos, "output_name": "cat", "max_train_steps": updates, "learning_rate": 1e-3,
        "cache_latents": True, "cache_latents_to_disk": True, "seed": 7, "save_precision": "float", "save_every_n_steps": 1,
        "save_last_n_steps": 2, "save_state": True, "sample_prompts": prompts, "sample_every_n_steps": 2, "max_data_loader_n_workers": 0,
        "save_model_as": "safetensors",
    }  # fmt: skip
    words = {"token_string": "zorb", "init_word": "cat", "use_object_template": True}
    return {
        "train_network": {**common, "network_module": "networks.lora", "network_dim": 2, "network_dropout": 0.3, "ema_decay": 0.9,
                          "save_every_n_epochs": 1},
        "train_db": {**common, "save_every_n_steps": 2},
        "fine_tune": {**common, "train_text_encoder": True, "save_every_n_steps": 2},
        "train_textual_inversion": {**common, **words, "save_every_n_epochs": 1},
        "train_textual_inversion_XTI": {**common, **words},
    }  # fmt: skip


def main() -> int:
    """Attack from the command line; the exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    from examples.photos import write_photos
    from tests.small_models import write_checkpoint

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos")
        model = write_checkpoint(folder / "tiny.safetensors", "v1")
        with fork_server(folder) as server:
            counts = attack(server, folder, arguments.kills, arguments.seed, scripts_of(model, folder / "photos", folder / "prompts.txt"))
    print(counts.text(), f"\nseed {arguments.seed}, {time.monotonic() - began:.0f} s")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
