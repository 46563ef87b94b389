"""Samples, logs and uploads next to a training: they change nothing in it, whether they work or fail, and reveal no secret."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import train_db
import train_network
from library import console
from library.training.logs import tensorboard_log, wandb_log
from library.training.logs.event_log import EventLog, read_events
from library.training.step import late_reports
from library.training.step.course import Course
from library.training.step.stopwatch import Stopwatch
from library.training.step.update import Gradients
from tests.hub_server import fake_hub, let_in
from tests.messages import message
from tests.scripts.running import kept, tensors_equal
from tests.scripts.starting import dataset, start

TOKEN, KEY = "hf_AbCdEfGhIjKlMnOp", "fedcba9876543210fedcba98765432100f1e2d3c"
PROMPT = "a (red:1.2) cat --w 64 --h 64 --s 2 --d 5\n"


@pytest.fixture
def train(tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`train(name, **options)` trains a network for 4 updates into tmp_path/<name> and returns that folder."""
    monkeypatch.setattr(console, "_secrets", set())
    (tmp_path / "prompts.txt").write_text(PROMPT, encoding="utf-8")
    common: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos),
        "output_name": "cat",
        "network_module": "networks.lora",
        "network_dim": 2,
        "network_dropout": 0.2,
        "max_train_steps": 4,
        "learning_rate": 1e-2,
        "cache_latents": True,
        "max_data_loader_n_workers": 0,
        "seed": 7,
        "save_precision": "float",
    }

    def run(name: str, **options: object) -> Path:
        assert start(train_network.main, **{**common, "output_dir": tmp_path / name, **options}) == 0
        return tmp_path / name

    return run


@pytest.fixture
def everything(tmp_path: Path) -> dict[str, object]:
    """Options that ask for each side job at each update."""
    samples = {"sample_prompts": tmp_path / "prompts.txt", "sample_every_n_steps": 1, "sample_at_first": True}
    logs = {"logging_dir": tmp_path / "logs", "log_with": "all", "wandb_api_key": KEY}
    hub = {"huggingface_repo_id": "me/x", "huggingface_token": TOKEN}
    return {**samples, **logs, **hub, "save_every_n_steps": 2, "image_ledger": True}


def losses(folder: Path) -> list[float]:
    return [event["loss/current"] for event in read_events(folder / "events.jsonl") if event["event"] == "update"]


def test_side_jobs_that_all_fail_change_not_one_bit_and_are_told(train, everything, monkeypatch, capsys) -> None:
    """Row 6: a sampler, two trackers and a hub that raise at every turn."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    quiet = train("quiet")
    monkeypatch.setattr("library.model.drawing.generate.generate", broken)
    monkeypatch.setattr(tensorboard_log, "_event", broken)
    monkeypatch.setattr(wandb_log, "_init", broken)
    monkeypatch.setattr("library.hub.DELAYS", (0.0,))
    capsys.readouterr()
    noisy = train("noisy", **everything)  # the hub refuses: tests are offline
    output = capsys.readouterr().err
    assert tensors_equal(quiet / "cat.safetensors", noisy / "cat.safetensors")
    assert losses(quiet) == losses(noisy) and len(losses(quiet)) == 4
    message(output, "samples of update 3", "1 of 1", "broken on purpose", "continues")
    message(output, "Weights & Biases", "broken on purpose")
    assert output.count("the log at Weights & Biases") == 1
    assert output.count("--logging_dir: the log in") == 1
    message(output, f"samples: {noisy / 'sample'}", "0 images, 5 failed")
    message(output, "uploads: https://huggingface.co/me/x", "0 done, 2 failed")
    assert "Traceback" not in output and TOKEN not in output and KEY not in output
    assert kept(noisy) == ["cat-step00000002.safetensors", "cat.safetensors"]


def test_side_jobs_that_all_work_change_not_one_bit_and_leave_no_secret(train, everything, monkeypatch, tmp_path, capfd) -> None:
    """Rows 6 and 7, and R4: what a run leaves, prints and sends has neither token nor key; a state comes back from the hub."""
    whole = train("whole")
    with fake_hub() as hub:
        let_in(monkeypatch, tmp_path, hub)
        hub.token = TOKEN
        monkeypatch.setenv("WANDB_MODE", "offline")
        more = {"save_state": True, "save_state_to_huggingface": True, "async_upload": True, "huggingface_path_in_repo": "runs"}
        more |= {"save_every_n_steps": 3}
        capfd.readouterr()
        parts = train("parts", **{**everything, **more}, max_train_steps=2)
        capfd.readouterr()
        resume = {"resume": "me/x/runs/cat-state:main:model", "resume_from_huggingface": True}
        parts = train("parts", **{**everything, **more}, **resume)
        output = "".join(capfd.readouterr())
        sent = hub.files("models/me/x")
    assert tensors_equal(whole / "cat.safetensors", parts / "cat.safetensors")
    assert losses(parts) == losses(whole)  # each step once, though two runs wrote the log
    assert sent["runs/cat.safetensors"] == (parts / "cat.safetensors").read_bytes()
    files = {"cat.safetensors", "cat-step00000003.safetensors"}
    states = {
        f"{name}-state/{file}"
        for name in ("cat", "cat-step00000003")
        for file in ("state.json", "trained-0.safetensors", "training.pt", "showings.safetensors")
    }
    assert sent.keys() - {".gitattributes"} == {f"runs/{name}" for name in files | states}
    assert f"samples: {parts / 'sample' / 'index.html'} (2 images)" in output and f"events: {parts / 'events.jsonl'}" in output
    assert len(list((parts / "sample").glob("cat_00000[0-4]_00_*_5.png"))) == 5
    assert f"uploads: {hub.address}/me/x" in output and f"settings: {parts / 'cat.run.json'}" in output

    written = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name in written if name.endswith(".wandb")] and [name for name in written if "tfevents" in name]
    for secret in (TOKEN, KEY):
        assert secret not in output
        assert not [name for name, content in {**written, **sent}.items() if secret.encode() in content]


def test_a_sample_is_the_picture_that_the_saved_file_makes_without_a_training(train, tiny_v1: Path, tmp_path: Path) -> None:
    """Row 7: training around it does not show in an image."""
    from library.model.drawing.generate import GenerateSettings, generate
    from library.model.load import load
    from networks import lora

    folder = train("out", sample_prompts=tmp_path / "prompts.txt", sample_every_n_steps=4, sample_sampler="euler_a")
    (path,) = (folder / "sample").glob("*.png")
    model = load(str(tiny_v1), False, False)
    level = torch.nn.Module()
    level.text_model = model.text_encoder
    network, weights = lora.create_network_from_weights(1.0, str(folder / "cat.safetensors"), model.vae, level, model.unet)
    network.apply_to(level, model.unet, True, True)
    network.load_state_dict(weights, strict=False)
    network.eval()
    prompt = "a (red:1.2) cat"
    image = generate(model, GenerateSettings(prompt, width=64, height=64, steps=2, seed=5, sampler="euler_a"))
    assert numpy.array_equal(numpy.asarray(image), numpy.asarray(Image.open(path)))
    plain = generate(load(str(tiny_v1), False, False), GenerateSettings(prompt, width=64, height=64, steps=2, seed=5, sampler="euler_a"))
    assert not numpy.array_equal(numpy.asarray(plain), numpy.asarray(image))


def test_the_event_log_has_what_the_trackers_have(train, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train("out", logging_dir=tmp_path / "logs", optimizer_type="Prodigy", learning_rate=1.0, max_grad_norm=0, max_train_steps=6)
    log = EventAccumulator(str(next((tmp_path / "logs").iterdir()) / "network_train"))
    log.Reload()
    updates = [entry for entry in read_events(folder / "events.jsonl") if entry["event"] == "update"]
    tags = {tag for tag in log.Tags()["scalars"] if tag != "loss/epoch"}
    assert tags == updates[0].keys() - {"event", "run", "session", "time", "step", "epoch"}
    assert {"loss/current", "loss/average", "lr/unet", "lr/d*lr/unet", "grad_norm", "seconds/data", "seconds/step", "memory/gib"} <= tags
    for tag in tags:
        assert [(event.step, pytest.approx(event.value, rel=1e-6)) for event in log.Scalars(tag)] == [
            (entry["step"], entry[tag]) for entry in updates
        ]
    assert [entry["epoch"] for entry in updates] == [1] * 5 + [2]  # 9 photographs in batches of 2
    (ending,) = [entry for entry in read_events(folder / "events.jsonl") if entry["event"] == "epoch" and entry["epoch"] == 1]
    assert ending["loss/epoch"] == pytest.approx(sum(entry["loss/current"] for entry in updates[:5]) / 5)
    events = [entry["event"] for entry in read_events(folder / "events.jsonl")]
    assert (events[0], events[-2:]) == ("start", ["saved", "end"])


def test_the_time_of_an_update_is_told_by_what_it_went_on(train, monkeypatch) -> None:
    """With a clock that only the work below moves."""
    now = [0.0]

    def taking(seconds: float, work):
        def timed(*arguments):
            now[0] += seconds
            return work(*arguments)

        return timed

    def read(*arguments):
        for group in groups(*arguments):
            now[0] += 3.0
            yield group

    groups = Course.groups
    monkeypatch.setattr(late_reports, "Stopwatch", partial(Stopwatch, now=lambda: now[0]))
    monkeypatch.setattr(Course, "groups", read)
    monkeypatch.setattr(Gradients, "accumulate", taking(10.0, Gradients.accumulate))
    monkeypatch.setattr(EventLog, "write", taking(0.5, EventLog.write))
    folder = train("out", save_every_n_steps=2)
    updates = [event for event in read_events(folder / "events.jsonl") if event["event"] == "update"]
    shares = [(event["seconds/data"], event["seconds/step"], event["seconds/other"]) for event in updates]
    # Lines are written during the next update: that the run begins and the figures of 1; those of 2 and that it was saved; those of 3.
    assert shares == [(3.0, 10.0, 0.0), (3.0, 10.0, 1.0), (3.0, 10.0, 1.0), (3.0, 10.0, 0.5)]


def test_a_file_tells_no_more_than_it_is_let(train) -> None:
    folder = train("out", metadata_privacy="technical", metadata_author="me", training_comment="my secret word", output_name="hidden")
    with safe_open(folder / "hidden.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora" and metadata["modelspec.author"] == "me"
    assert metadata["modelspec.hash_sha256"] == f"0x{metadata['sshs_model_hash']}"
    assert (metadata["ss_network_dim"], metadata["ss_learning_rate"], metadata["ss_resolution"]) == ("2", "0.01", "(64, 64)")
    assert not [key for key, value in metadata.items() if any(word in value for word in ("secret", "hidden", "photos", "tiny", "flag"))]
    manifest = json.loads((folder / "hidden.run.json").read_text(encoding="utf-8"))
    assert manifest["model"]["new_sd_model_hash"] == metadata["ss_new_sd_model_hash"]
    assert manifest["options"]["training_comment"]["value"] == "my secret word"  # the manifest stays with its owner
    assert (manifest["seed"], manifest["result"], manifest["updates"]) == (7, "hidden.safetensors", 4)
    assert len(manifest["images_sha256"]) == 64 and manifest["data"]["images"] == 9 and "torch" in manifest["versions"]


def test_a_whole_model_tells_what_it_is(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    import hashlib

    config = dataset(tmp_path / "data.toml", photos)
    options = {"max_train_steps": 1, "max_data_loader_n_workers": 0, "metadata_title": "Our “cat”", "stop_text_encoder_training": -1}
    assert start(train_db.main, pretrained_model_name_or_path=tiny_v1, dataset_config=config, output_dir=tmp_path / "out", **options) == 0
    path = tmp_path / "out" / "last.safetensors"
    content = path.read_bytes()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["modelspec.architecture"], metadata["modelspec.title"]) == ("stable-diffusion-v1", "Our “cat”")
    assert metadata["modelspec.hash_sha256"] == f"0x{hashlib.sha256(content[8 + int.from_bytes(content[:8], 'little') :]).hexdigest()}"
    assert (metadata["epoch"], metadata["global_step"]) == ("1", "1") and not [key for key in metadata if key.startswith("ss_")]
