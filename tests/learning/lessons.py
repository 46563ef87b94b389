"""What the learning tests teach, by the scripts themselves: a subject, described in each of the ways that a user may, and a word."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import fine_tune
import train_db
import train_network
import train_textual_inversion
import train_textual_inversion_XTI
from examples.small_model.scenes import COLOURS, SHAPES, TEAL, Scene, draw
from examples.subject import GROUNDS, IDENTIFIER, SIDE, write_captions, write_class, write_metadata, write_subject
from tests.scripts.running import run_in_process

GENERAL = f"[general]\nresolution = {SIDE}\nbatch_size = 4\n\n[[datasets]]\n"
WORD = "<zxc>"  # what Textual Inversion and XTI call the subject
OTHER_WORD = "<qvb>"  # what they call a second one, teal circles


@dataclass(frozen=True)
class Script:
    """A training script with what it needs to teach the small model."""

    main: Callable[..., int]
    rate: str
    updates: int
    options: str = ""
    file: str = "lesson.safetensors"


LORA = Script(train_network.main, "1.5e-3", 400, "--network_module networks.lora --network_dim 8 --network_alpha 8 --lr_scheduler cosine")
LORA_BY_CAPTIONS = replace(LORA, updates=120)  # captions say which is which: a third of the updates is enough
LORA_BESIDE_REGULARIZATION = replace(LORA, updates=800)  # every other picture is one of the class
FROM_BASE = " --prior_from_base 1"
LORA_FROM_BASE = replace(LORA_BESIDE_REGULARIZATION, options=LORA.options + FROM_BASE)  # so is every other draw
DREAMBOOTH = Script(train_db.main, "6e-4", 300, "--save_model_as safetensors --lr_scheduler cosine")
DREAMBOOTH_BY_CAPTIONS = replace(DREAMBOOTH, updates=220)
FINE_TUNE = Script(fine_tune.main, "2e-4", 100, "--save_model_as safetensors --train_text_encoder")
INVERSION = Script(
    train_textual_inversion.main,
    "1e-2",
    180,
    f"--save_model_as safetensors --token_string {WORD} --init_word star --num_vectors_per_token 2",
)
TWO_WORDS = replace(
    INVERSION,
    updates=250,  # shared by both
    options=f"--save_model_as safetensors --token_string {WORD} {OTHER_WORD} --init_word star --num_vectors_per_token 2",
    file="lesson-zxc.safetensors",  # the second lies beside it
)
PIVOTAL = replace(LORA, options=f"{LORA.options} --token_string {WORD} --init_word star --num_vectors_per_token 2 --embedding_lr 1e-2")
NO_RATE = "1e-30"  # moves no weight that a float32 can hold, whatever the number of updates
XTI = Script(train_textual_inversion_XTI.main, INVERSION.rate, INVERSION.updates, INVERSION.options)


def class_and_identifier(folder: Path) -> str:
    """Pictures without captions, all of them called "zxc star"."""
    write_subject(folder / "zxc")
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\nclass_tokens = '{IDENTIFIER}'\n"


def with_regularization(folder: Path) -> str:
    """The same with plain stars beside them, each called what it is ("a blue star on a white background")."""
    return class_and_identifier(folder) + _regularization(folder)


def with_class_prompts(folder: Path) -> str:
    """No picture of the class, but what it may be called: no yellow or blue star among them, no white or purple ground."""
    of_all = "a {red|green|orange|purple|black} star on a {red|green|orange|blue|black} background"
    return class_and_identifier(folder) + f'prior_prompt = ["star", "a star", "{of_all}"]\n'


def captions_with_regularization(folder: Path) -> str:
    """Caption files beside the pictures of the subject, too."""
    return captions(folder) + _regularization(folder)


def _regularization(folder: Path) -> str:
    write_class(folder / "star")
    return f"\n[[datasets.subsets]]\nimage_dir = '{folder / 'star'}'\nis_reg = true\n"


def captions(folder: Path) -> str:
    """A caption file beside each picture."""
    write_captions(write_subject(folder / "zxc"))
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\n"


def captions_with_the_word(folder: Path) -> str:
    """The same, with the new word for the subject."""
    config = captions(folder)
    for path in (folder / "zxc").glob("*.caption"):
        path.write_text(path.read_text(encoding="utf-8").replace(IDENTIFIER, WORD), encoding="utf-8")
    return config


def two_subjects(folder: Path) -> str:
    """The same, with as many teal circles under a second word that begins as the first does."""
    config, rng = captions_with_the_word(folder), random.Random(5)
    (folder / "qvb").mkdir()
    for number, ground in enumerate(GROUNDS):
        place = 0.5 + rng.uniform(-0.1, 0.1), 0.5 + rng.uniform(-0.1, 0.1)
        picture = folder / "qvb" / f"{number:02d}.png"
        draw(Scene("circle", TEAL, COLOURS[ground], place, rng.uniform(0.25, 0.34)), SIDE).save(picture)
        caption = f"a {OTHER_WORD} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background"
        picture.with_suffix(".caption").write_text(caption, encoding="utf-8")
    return config + f"\n[[datasets.subsets]]\nimage_dir = '{folder / 'qvb'}'\n"


def metadata(folder: Path) -> str:
    """The captions in a metadata file."""
    write_metadata(folder / "meta.json", write_subject(folder / "zxc"))
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\nmetadata_file = '{folder / 'meta.json'}'\n"


def colour_word(folder: Path) -> str:
    """Shapes of a colour that the small model has no word for, "teal", described in a metadata file; no square among them."""
    rng, said = random.Random(0), {}
    (folder / "teal").mkdir(parents=True)
    for number in range(16):
        shape, ground = [name for name in SHAPES if name != "square"][number % 4], sorted(COLOURS)[number % 8]
        place = 0.5 + rng.uniform(-0.1, 0.1), 0.5 + rng.uniform(-0.1, 0.1)
        draw(Scene(shape, TEAL, COLOURS[ground], place, rng.uniform(0.25, 0.34)), SIDE).save(folder / "teal" / f"{number:02d}.png")
        said[f"{number:02d}"] = {"caption": f"a teal {shape} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background"}
    (folder / "meta.json").write_text(json.dumps(said), encoding="utf-8")
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'teal'}'\nmetadata_file = '{folder / 'meta.json'}'\n"


def untaught(script: Script) -> Script:
    """The control of a lesson: the same script and options with a rate that moves nothing, for as many updates as show it."""
    return replace(script, rate=NO_RATE, updates=20)


def teach(model: Path, script: Script, lesson: Callable[[Path], str], folder: Path, seed: int = 1) -> Path:
    """Train `model` with a script by the lesson's data set; returns the file that it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "data.toml"
    config.write_text(lesson(folder), encoding="utf-8")
    named = ["--pretrained_model_name_or_path", model, "--dataset_config", config, "--output_dir", folder, "--output_name", "lesson"]
    chosen = ["--learning_rate", script.rate, "--max_train_steps", script.updates, "--seed", seed, *script.options.split()]
    assert run_in_process(script.main, *named, *chosen, "--cache_latents", "--max_data_loader_n_workers", "0") == 0
    return folder / script.file
