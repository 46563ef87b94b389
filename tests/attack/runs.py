"""Runs of the five scripts on a small model in a forked child, which may kill itself: what attacks by kills and full disks share."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.attack.fork_server import ForkServer, fork_server

IMAGES = 8  # files: four images with captions
LONGEST = 240.0  # seconds of a run; one that takes longer hangs
Scripts = Mapping[str, Mapping[str, object]]  # options by script


@dataclass(frozen=True)
class Kill:
    """`operation` counts those that change something below a folder; the child kills itself just before that one. Else `after` seconds, or
    just before the line of an event is written: `line` is "saved_state 2"."""

    operation: int | None = None
    after: float | None = None
    line: str | None = None


NEVER = Kill()


@dataclass(frozen=True)
class Ended:
    """How a run ended: `code` is negative for a signal, None for a run that hung."""

    code: int | None
    seconds: float
    told: str
    operations: int = 0


def run(
    server: ForkServer,
    script: str,
    options: Mapping[str, object],
    folder: Path,
    kill: Kill = NEVER,
    prepare: tuple[str, object] | None = None,
) -> Ended:
    """Run `script` with `options`; operations below `folder` count. `prepare`: a function, as module:name, that the child calls with what
    stands behind it before it begins."""
    argv: list[str] = []
    for name, value in options.items():
        if value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            argv += [f"--{name}", *([] if value is True else map(str, values))]
    counts = server.folder / "counts"
    counts.unlink(missing_ok=True)
    given = {"script": script, "argv": argv, "folder": str(folder), "counts": str(counts), "prepare": prepare}
    given |= {"operation": kill.operation, "line": kill.line}
    answer = server.ask("tests.attack.dying:run", given, LONGEST if kill.after is None else kill.after)
    code = -signal.SIGKILL if answer.code is None and kill.after is not None else answer.code
    operations = int(counts.read_text(encoding="utf-8")) if counts.exists() else 0
    return Ended(code, answer.seconds, answer.stdout + answer.stderr, operations)


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


@contextmanager
def ready() -> Iterator[tuple[ForkServer, Path, Scripts]]:
    """For an attack from the command line: a server, a temporary folder and the scripts' options with a model and photographs there."""
    from examples.photos import write_photos
    from tests.small_models import write_checkpoint

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos")
        model = write_checkpoint(folder / "tiny.safetensors", "v1")
        (folder / "server").mkdir()
        with fork_server(folder / "server") as server:
            yield server, folder, scripts_of(model, folder / "photos", folder / "prompts.txt")
