"""Options of gen_img.py, which generates images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_BATCH, MOST_EPOCHS, MOST_PIXELS, MOST_REPEATS, MOST_SEED
from library.options.declare import Tool, opt
from library.options.groups.sampling import SAMPLERS

MOST_STRENGTH = 1000  # of a network, positive or negative
_DEVICE = "Where to compute: cuda, cuda:1, mps or cpu. Default: the GPU if there is one."


@dataclass(frozen=True)
class PictureModelOptions:
    """Model"""

    ckpt: str = opt(
        None,
        "The model to generate with: a .safetensors or .ckpt file, a Diffusers folder, or a Hugging Face model id.",
        path="model",
        aliases=("pretrained_model_name_or_path",),
    )
    v2: bool = opt(False, "The model is Stable Diffusion 2.x.")
    v_parameterization: bool = opt(False, "The model predicts velocity, as Stable Diffusion 2.x 768 models do (768-v).")
    zero_terminal_snr: bool = opt(False, "The model was trained with zero terminal SNR: start from pure noise.")
    vae: str | None = opt(None, "Another VAE instead of the model's: a checkpoint, VAE file, Diffusers folder or id.", path="model")
    tokenizer_cache_dir: str | None = opt(
        None, "A folder to keep tokenizers in; rarely needed, since the suite includes a tokenizer.", path="folder that is filled"
    )
    clip_skip: int | None = opt(
        None, "Use the output of the N-th layer from the end of the text encoder, as in the training.", at_least=1, at_most=24
    )
    max_embeddings_multiples: int | None = opt(
        None, "Most windows of 75 tokens to read of a prompt. Default: 3, as in training samples.", at_least=1, at_most=100
    )


@dataclass(frozen=True)
class PictureNetworkOptions:
    """Networks and embeddings"""

    network_weights: tuple[str, ...] = opt((), "The network files to generate with: LoRA, LyCORIS and others.", path="file")
    network_module: tuple[str, ...] = opt(
        (), "The kind of each of --network_weights, or one for all, such as networks.lora. Default: detected from the files."
    )
    network_mul: tuple[float, ...] = opt(
        (), "Strength of each of --network_weights. Default: 1 each.", at_least=-MOST_STRENGTH, at_most=MOST_STRENGTH
    )
    network_args: tuple[str, ...] = opt((), "Arguments for the module of each of --network_weights, as key=value;key=value.")
    textual_inversion_embeddings: tuple[str, ...] = opt(
        (),
        "Textual Inversion files; in prompts, write the file's name without its extension, or the word it was trained with.",
        path="file",
    )
    XTI_embeddings: tuple[str, ...] = opt((), "XTI files, used in the same way.", path="file")


@dataclass(frozen=True)
class PicturePromptOptions:
    """Prompts"""

    prompt: str | None = opt(
        None, "The prompt, followed by its options: 'a dog --n blurry --w 512 --h 768 --d 1 --l 7 --s 28 --ss euler_a --am 0.8'."
    )
    from_file: str | None = opt(None, "File with prompts (.txt, .toml or .json), as for --sample_prompts in training.", path="file")
    images_per_prompt: int = opt(
        1, "How many images to generate for each prompt, each with the next seed.", at_least=1, at_most=MOST_REPEATS
    )
    n_iter: int = opt(1, "How often to repeat all prompts.", at_least=1, at_most=MOST_EPOCHS)
    seed: int | None = opt(
        None, "Seed of the first image; the next ones use the following seeds. --d of a prompt overrides it. Default: random.", at_least=0,
        at_most=MOST_SEED,
    )  # fmt: skip
    iter_same_seed: bool = opt(False, "Use the same seed for all prompts of a pass.")


@dataclass(frozen=True)
class PictureSizeOptions:
    """Images"""

    W: int | None = opt(None, "Width in pixels. Default: 512, or that of the start image.", at_least=64, at_most=MOST_PIXELS)
    H: int | None = opt(None, "Height in pixels. Default: 512, or that of the start image.", at_least=64, at_most=MOST_PIXELS)
    steps: int = opt(30, "Steps; sd-scripts uses 50, training samples 30.", at_least=1, at_most=999)
    scale: float = opt(7.5, "Guidance (CFG scale); 1 turns it off.", at_least=0, at_most=1000)
    sampler: str = opt("ddim", "Sampler of the images.", choices=SAMPLERS)


@dataclass(frozen=True)
class PictureOptions(PictureSizeOptions):
    """Images"""

    image_path: tuple[str, ...] = opt(
        (), "Start from this image (img2img); if several are given, each prompt uses the next one.", path="file"
    )
    mask_path: tuple[str, ...] = opt(
        (), "Repaint only where this image is white; one for each of --image_path or one for all.", path="file"
    )
    strength: float | None = opt(
        None,
        "How much of --image_path to repaint, 0 to 1. Default: 0.8, or 1 for an inpainting model with a mask. Overridden by --t.",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class PictureOutputOptions:
    """Files"""

    outdir: Path = opt(Path("outputs"), "The folder for the images.", path="new folder")
    sequential_file_name: bool = opt(False, "Name them im_000001.png and so on, continuing after the last existing one.")


@dataclass(frozen=True)
class PictureWorkOptions:
    """Work"""

    batch_size: int = opt(
        1, "How many images to generate at once; more is faster on a GPU and needs more memory.", at_least=1, at_most=MOST_BATCH
    )
    fp16: bool = opt(False, "Compute in fp16, which takes half the memory; on a GPU only.")
    bf16: bool = opt(False, "Compute in bf16, which takes half the memory.")
    no_half_vae: bool = opt(False, "Keep the VAE in float32 with --fp16 or --bf16, to avoid black images.")
    xformers: bool = opt(False, "Compute attention with xformers.")
    sdpa: bool = opt(False, "Compute attention with PyTorch's scaled dot product, which is the default.")
    device: str | None = opt(None, _DEVICE)


@dataclass(frozen=True)
class GenImg(Tool):
    """Generate images with a model, networks and embeddings; the same seed gives the same image as a sample in training."""

    name: ClassVar[str] = "gen_img.py"
    required: ClassVar[tuple[str, ...]] = ("ckpt",)

    model: PictureModelOptions
    networks: PictureNetworkOptions
    prompts: PicturePromptOptions
    pictures: PictureOptions
    output: PictureOutputOptions
    work: PictureWorkOptions


@dataclass(frozen=True)
class ComparedOptions:
    """What is compared"""

    networks: tuple[str, ...] = opt((), "The network files, or patterns such as dog-0000*.safetensors; epochs are sorted.")
    strengths: tuple[float, ...] = opt(
        (), "Use each file at these strengths, such as 0.6 1.0. Default: 1.", at_least=-MOST_STRENGTH, at_most=MOST_STRENGTH
    )
    network_module: str | None = opt(None, "The kind of all files, such as networks.lora. Default: detected from each file.")
    without: bool = opt(False, "Add a column for the model without any of them.")


@dataclass(frozen=True)
class ComparedPromptOptions:
    """Prompts"""

    prompt: str | None = opt(None, "One prompt, followed by its options: 'a dog --n blurry --d 1'.")
    from_file: str | None = opt(
        None, "File with prompts (.txt, .toml or .json), a row for each; the file of --sample_prompts works.", path="file"
    )
    seed: int = opt(1, "Seed for prompts without --d.", at_least=0, at_most=MOST_SEED)


@dataclass(frozen=True)
class ComparedLossOptions:
    """Validation loss"""

    images: Path | None = opt(
        None, "A folder of captioned images, preferably not trained on: also measure the loss on them for each file.", path="folder"
    )
    dataset_config: Path | None = opt(
        None, "The same from a dataset config: the images of its validation_split, or all images without one.", path="file"
    )
    resolution: str = opt("512", "With --images: the size to measure at, as in training: 512, or width,height.")
    caption_extension: str = opt(".caption", "With --images: the extension of the caption files.", path="part of a name")
    validation_seed: int = opt(0, "Offset of the noise, as in training.", at_least=0, at_most=MOST_SEED)


@dataclass(frozen=True)
class ComparedOutputOptions:
    """Files"""

    outdir: Path = opt(Path("comparison"), "The folder for the page, the sheet and the images.", path="new folder")


@dataclass(frozen=True)
class CompareNetworks(Tool):
    """Compare network files: the same prompts with each of them, side by side in one page and one sheet."""

    name: ClassVar[str] = "tools/compare_networks.py"
    required: ClassVar[tuple[str, ...]] = ("ckpt", "networks")

    model: PictureModelOptions
    compared: ComparedOptions
    prompts: ComparedPromptOptions
    pictures: PictureSizeOptions
    loss: ComparedLossOptions
    output: ComparedOutputOptions
    work: PictureWorkOptions


PICTURE_TOOLS = (GenImg, CompareNetworks)
