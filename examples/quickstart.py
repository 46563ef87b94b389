"""The suite in three minutes, as a new user would use it: teaches the small model a new word with train_network.py and shows what changed.

python -m examples.quickstart              a subject in 8 pictures, "zxc star"
python -m examples.quickstart --photos     captioned photographs in several aspect ratios instead
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from examples.grid import Row, draw_grid
from examples.photos import write_photos
from examples.subject import GROUNDS, IDENTIFIER, write_captioned_subject
from library.console import EXIT_FAULT
from library.parsing.toml_text import toml_string
from library.paths.shell_words import shell_word
from library.telling.streams import install

MODEL = Path("examples/small_model/small_sd.safetensors")
NAME = "quickstart"
COMPARISON = "comparison"  # the folder of the page
SHOW = "import sys, safetensors; print(safetensors.safe_open(sys.argv[1], 'pt').metadata())"
STEPS, GUIDANCE = 20, 2.5  # of the samples


@dataclass(frozen=True)
class Prompt:
    """A sample that is drawn each epoch, and a remark for people on what it shows."""

    text: str
    remark: str
    seed: int


@dataclass(frozen=True)
class Example:
    """A data set, the lines of its dataset config, and how it is trained."""

    images: str  # folder inside the example's
    write: Callable[[Path], list[Path]]
    config: str
    prompts: tuple[Prompt, ...]
    side: int  # pixels, of the samples
    told: str  # what the pictures are, for people
    title: str
    options: tuple[str, ...]


SUBJECT = Example(
    images="zxc",
    write=write_captioned_subject,
    config="""# 8 pictures of one subject, each with its caption in a .caption file beside it.
[general]
resolution = 64             # pixels; 512 for Stable Diffusion 1.5, 768 for 2.1
batch_size = 4

[[datasets]]
[[datasets.subsets]]
image_dir = {images}
caption_extension = '.caption'
num_repeats = 40            # each picture 40 times an epoch
""",
    prompts=(
        Prompt(f"a {IDENTIFIER} on a red background", "the new word", 1),
        Prompt(f"a {IDENTIFIER} on a yellow background", "the new word once more", 2),
        Prompt("a red circle on a blue background", "known before: has to stay", 3),
        Prompt("a yellow star on a purple background", "known before: plain stars have to stay, too", 4),
    ),
    side=64,
    told=f"8 pictures of a teal star, called “{IDENTIFIER}”",
    title="A LoRA learns a new word from 8 pictures",
    options=tuple("--max_train_epochs 5 --learning_rate 5e-4 --network_dim 8 --network_alpha 8".split()),
)

PHOTOS = Example(
    images="photos",
    write=write_photos,
    config="""# Photographs of several aspect ratios, each with its caption in a .caption file beside it.
[general]
resolution = 128            # pixels; the area, when enable_bucket is on
enable_bucket = true        # each photograph keeps its own aspect ratio
min_bucket_reso = 64
max_bucket_reso = 256
bucket_reso_steps = 32
batch_size = 2

[[datasets]]
[[datasets.subsets]]
image_dir = {images}
caption_extension = '.caption'
num_repeats = 5
""",
    prompts=(
        Prompt("a photo of a tabby cat, close up", "photographs are far from what this small model knows: expect a blur of them", 1),
        Prompt("a photo of a cup of coffee, from above", "the same", 2),
        Prompt("a red circle on a blue background", "known before", 3),
    ),
    side=128,
    told="9 captioned photographs in several aspect ratios",
    title="A LoRA sees 9 photographs",
    options=tuple("--max_train_epochs 5 --learning_rate 1e-3 --network_dim 16 --network_alpha 16".split()),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example and return an exit code."""
    args = _arguments(argv)
    began = time.time()
    install()  # the folder may be called anything
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: the model lies in the clone
    if not args.model.is_file():
        print(f"error: --model {args.model}: there is no such file; start this from the project's folder", file=sys.stderr)
        return EXIT_FAULT
    example = PHOTOS if args.photos else SUBJECT
    folder = args.output / "photos" if args.photos else args.output
    images, config, prompts = _write_inputs(example, folder)
    _say(f"""
        1. The data: {example.told}.
             {folder / example.images}
           The file that describes it. For your own images you write this one and the prompts, prompts.txt:
             {config}""")
    command = _command(example, args.model, config, prompts, folder, args.options)
    _say(f"\n        2. The training. This is the command, as you would type it:\n\n             {_as_typed(command)}\n")
    training_began = time.time()
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *command], check=False)
    if done.returncode != 0:
        print("error: the training stopped; what to mend is said above", file=sys.stderr)
        return done.returncode
    trained = time.time() - training_began
    _say("\n        3. The same prompts and seeds once more with the untrained model, to compare.")
    grid = _write_grid(example, args.model, images, folder, training_began)
    compare = _comparison(example, args.model, prompts, folder, training_began)
    _say(f"\n        4. The file of each epoch, side by side: which is best?\n\n             {_as_typed(compare, 'python')}\n")
    if subprocess.run([sys.executable, *compare], check=False).returncode != 0:
        print("error: the files could not be compared; what to mend is said above", file=sys.stderr)
        return EXIT_FAULT
    _say_results(folder, grid, args.model, example, trained, time.time() - began)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", action="store_true", help="train on captioned photographs instead (needs examples/requirements.txt)")
    parser.add_argument("--model", type=Path, default=MODEL, help="another small Stable Diffusion 1.x file")
    parser.add_argument("--output", type=Path, default=Path("output/quickstart"), help="where everything is written")
    parser.add_argument("options", nargs="*", help="after --: more options for train_network.py, such as -- --max_train_epochs 2")
    return parser.parse_args(argv)


def _write_inputs(example: Example, folder: Path) -> tuple[list[Path], Path, Path]:
    """Images, dataset config and prompt file of the example."""
    folder.mkdir(parents=True, exist_ok=True)
    images = example.write(folder / example.images)
    config, prompts = folder / "dataset.toml", folder / "prompts.txt"
    config.write_text(example.config.format(images=toml_string((folder / example.images).as_posix())), encoding="utf-8")
    size = f"--w {example.side} --h {example.side} --s {STEPS} --l {GUIDANCE:g}"
    lines = [f"{prompt.text} {size} --d {prompt.seed}" for prompt in example.prompts]
    about = "# one sample a line: --w width --h height --s steps --l guidance --d seed"
    prompts.write_text("\n".join([about, *lines]) + "\n", encoding="utf-8")
    return images, config, prompts


def _command(example: Example, model: Path, config: Path, prompts: Path, folder: Path, more: Sequence[str]) -> list[str]:
    """What follows `accelerate launch`; the same on a CPU and on a GPU but for --cpu."""
    import torch

    launch = [] if torch.cuda.is_available() else ["--cpu"]
    launch += "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no".split()
    if "OMP_NUM_THREADS" not in os.environ:
        launch += ["--num_cpu_threads_per_process", str(min(os.cpu_count() or 1, 4))]
    files = {
        "--pretrained_model_name_or_path": model,
        "--dataset_config": config,
        "--output_dir": folder,
        "--output_name": NAME,
        "--logging_dir": folder / "logs",
        "--sample_prompts": prompts,
    }
    named = [part for flag, path in files.items() for part in (flag, path.as_posix() if isinstance(path, Path) else path)]
    fixed = "--sample_every_n_epochs 1 --save_every_n_epochs 1 --network_module networks.lora --cache_latents --seed 1".split()
    fixed += ["--max_data_loader_n_workers", "0"]
    return [*launch, "train_network.py", *named, *fixed, *example.options, *more]


def _comparison(example: Example, model: Path, prompts: Path, folder: Path, since: float) -> list[str]:
    """The command that draws the prompts with the file of each epoch of this run."""
    files = sorted(path.as_posix() for path in folder.glob(f"{NAME}*.safetensors") if path.stat().st_mtime >= since - 1)
    sizes = f"--W {example.side} --H {example.side} --steps {STEPS} --scale {GUIDANCE:g}".split()
    named = ["--ckpt", model.as_posix(), "--networks", *files, "--from_file", prompts.as_posix()]
    return ["tools/compare_networks.py", *named, "--without", *sizes, "--outdir", (folder / COMPARISON).as_posix()]


def _as_typed(command: Sequence[str], started: str = "accelerate launch") -> str:
    """The command in lines of fair length."""
    lines = [started]
    for word in command:
        quoted = shell_word(word)
        starts = word.startswith("--") or word.endswith(".py")
        if starts and len(lines[-1]) > 90:
            lines.append(quoted)
        else:
            lines[-1] += " " + quoted
    return " \\\n               ".join(lines)


def _write_grid(example: Example, model: Path, images: Sequence[Path], folder: Path, since: float) -> Path:
    """The before/after sheet from the samples that the training left and those of the untrained model."""
    before = _before(example, model)
    after = [_samples(folder / "sample", index, since) for index in range(len(example.prompts))]
    epochs = min(len(pictures) for pictures in after)
    rows = [
        Row(prompt.text, prompt.remark, [first, *pictures[:epochs]])
        for prompt, first, pictures in zip(example.prompts, before, after, strict=True)
    ]
    shown = [Image.open(path) for path in images[: len(GROUNDS)]]
    sheet = draw_grid(
        example.title, shown, f"what it was shown: {example.told}", ["before", *(f"epoch {n}" for n in range(1, epochs + 1))], rows
    )
    path = folder / "before_after.png"
    sheet.save(path)
    return path


def _before(example: Example, model: Path) -> list[Image.Image]:
    """The prompts drawn by the model as it came."""
    from library.light_imports.models import import_models

    import_models()  # without quantizers, which tell of themselves
    from library.model.drawing.generate import GenerateSettings, generate
    from library.model.load import load

    untrained = load(model)
    side = example.side
    settings = [GenerateSettings(prompt.text, "", side, side, STEPS, GUIDANCE, prompt.seed) for prompt in example.prompts]
    return [generate(untrained, chosen) for chosen in settings]


def _samples(folder: Path, index: int, since: float) -> list[Image.Image]:
    """The pictures of one prompt in the order of epochs; an older run's are left out."""
    found = sorted(folder.glob(f"{NAME}_e??????_{index:02d}_*.png"), key=lambda path: path.name)
    return [Image.open(path) for path in found if path.stat().st_mtime >= since - 1]


def _say(text: str) -> None:
    print("\n".join(line.removeprefix("        ") for line in text.split("\n")), flush=True)


def _say_results(folder: Path, grid: Path, model: Path, example: Example, trained: float, seconds: float) -> None:
    opened = {"win32": "explorer", "darwin": "open"}.get(sys.platform, "xdg-open")
    prompt = example.prompts[0].text
    # PowerShell does not run a program between quotes
    python = sys.executable if os.name == "nt" and " " not in sys.executable else shell_word(sys.executable)
    _say(f"""
        Done in {seconds:.0f} s, of which the training took {trained:.0f} s.

        Before and after, at a glance     {grid}
             {opened} {shell_word(grid)}
        The epochs compared, in a browser {folder / COMPARISON / "index.html"}
             {opened} {shell_word(folder / COMPARISON / "index.html")}
        The LoRA                          {folder / NAME}.safetensors
             {python} -c "{SHOW}" {shell_word(f"{folder / NAME}.safetensors")}
        The samples of each epoch         {folder / "sample"}
             {opened} {shell_word(folder / "sample")}
        The log of losses                 {folder / "logs"}
             {python} -m tensorboard.main --logdir {shell_word(folder / "logs")}

        In the pictures above the LoRA acts on “{prompt}”.
        For pictures of your own: put them in a folder, name it in a copy of {folder / "dataset.toml"},
        and start the command above with your model. README.md has it for Stable Diffusion 1.5.""")


if __name__ == "__main__":
    sys.exit(main())
