"""Options of gen_img.py, which draws pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from library.options.bounds import MOST_BATCH, MOST_EPOCHS, MOST_PIXELS, MOST_REPEATS, MOST_SEED
from library.options.declare import Tool, opt
from library.options.groups.sampling import SAMPLERS

MOST_STRENGTH = 1000  # of a network, either way
_DEVICE = "Where to compute: cuda, cuda:1, mps or cpu. Left out: the GPU if there is one."


@dataclass(frozen=True)
class PictureModelOptions:
    """Model"""

    ckpt: str = opt(
        None,
        "The model to draw with: a .safetensors or .ckpt file, a Diffusers folder, or a Hugging Face model id.",
        path="model",
        aliases=("pretrained_model_name_or_path",),
    )
    v2: bool = opt(False, "The model is a Stable Diffusion 2.x one.")
    v_parameterization: bool = opt(False, "The model predicts velocity, as Stable Diffusion 2.x 768 models do (768-v).")
    zero_terminal_snr: bool = opt(False, "The model was trained with zero terminal SNR: begin with pure noise.")
    vae: str | None = opt(None, "Another VAE instead of the model's own: a checkpoint, VAE file, Diffusers folder or id.", path="model")
    tokenizer_cache_dir: str | None = opt(
        None, "A folder in which tokenizers are kept; the suite brings its own, so it is rarely needed.", path="folder that is filled"
    )
    clip_skip: int | None = opt(
        None, "Use the output of the N-th layer from the end of the text encoder, as in the training.", at_least=1, at_most=24
    )
    max_embeddings_multiples: int | None = opt(
        None, "How many windows of 75 tokens a prompt is read in at most; left out: 3, as in training samples.", at_least=1, at_most=100
    )


@dataclass(frozen=True)
class PictureNetworkOptions:
    """Networks and embeddings"""

    network_weights: tuple[str, ...] = opt((), "The network files to draw with: LoRA, LyCORIS and others.", path="file")
    network_module: tuple[str, ...] = opt(
        (), "The kind of each of --network_weights, or one for all, such as networks.lora. Left out: as the files show."
    )
    network_mul: tuple[float, ...] = opt(
        (), "How strongly each of --network_weights acts; left out: 1 each.", at_least=-MOST_STRENGTH, at_most=MOST_STRENGTH
    )
    network_args: tuple[str, ...] = opt((), "What the module of each of --network_weights is told, as key=value;key=value.")
    textual_inversion_embeddings: tuple[str, ...] = opt(
        (),
        "Files of Textual Inversion; write the file's name without its ending, or the word it was trained with, in prompts.",
        path="file",
    )
    XTI_embeddings: tuple[str, ...] = opt((), "Files of XTI, used in the same way.", path="file")


@dataclass(frozen=True)
class PicturePromptOptions:
    """Prompts"""

    prompt: str | None = opt(
        None, "The prompt, with its own options behind it: 'a dog --n blurry --w 512 --h 768 --d 1 --l 7 --s 28 --ss euler_a --am 0.8'."
    )
    from_file: str | None = opt(None, "File with prompts (.txt, .toml or .json), as for --sample_prompts in training.", path="file")
    images_per_prompt: int = opt(1, "How many pictures of each prompt, each with the next seed.", at_least=1, at_most=MOST_REPEATS)
    n_iter: int = opt(1, "How often all prompts are gone through.", at_least=1, at_most=MOST_EPOCHS)
    seed: int | None = opt(
        None, "Seed of the first picture, the next ones have the following; --d of a prompt wins. Left out: drawn.", at_least=0,
        at_most=MOST_SEED,
    )  # fmt: skip
    iter_same_seed: bool = opt(False, "All prompts of a pass get the same seed.")


@dataclass(frozen=True)
class PictureSizeOptions:
    """Pictures"""

    W: int | None = opt(None, "Width in pixels; left out: 512, or that of an image to begin with.", at_least=64, at_most=MOST_PIXELS)
    H: int | None = opt(None, "Height in pixels; left out: 512, or that of an image to begin with.", at_least=64, at_most=MOST_PIXELS)
    steps: int = opt(30, "Steps; sd-scripts takes 50, training samples 30.", at_least=1, at_most=1000)
    scale: float = opt(7.5, "Guidance (CFG scale); 1 turns it off.", at_least=0, at_most=1000)
    sampler: str = opt("ddim", "How pictures are drawn.", choices=SAMPLERS)


@dataclass(frozen=True)
class PictureOptions(PictureSizeOptions):
    """Pictures"""

    image_path: tuple[str, ...] = opt((), "Begin with this image (img2img); of several each prompt takes the next.", path="file")
    mask_path: tuple[str, ...] = opt((), "Draw anew only where this image is white, for each of --image_path or one for all.", path="file")
    strength: float | None = opt(
        None,
        "How much of --image_path is drawn anew, 0 to 1; left out: 0.8, or 1 for an inpainting model with a mask. --t of a prompt wins.",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class PictureOutputOptions:
    """Files"""

    outdir: Path = opt(Path("outputs"), "The folder for the pictures.", path="new folder")
    sequential_file_name: bool = opt(False, "Name them im_000001.png and so on, after the last that is there.")


@dataclass(frozen=True)
class PictureWorkOptions:
    """Work"""

    batch_size: int = opt(
        1, "How many pictures are drawn at once; more is faster on a GPU and needs more memory.", at_least=1, at_most=MOST_BATCH
    )
    fp16: bool = opt(False, "Compute in fp16, which takes half the memory; on a GPU only.")
    bf16: bool = opt(False, "Compute in bf16, which takes half the memory.")
    no_half_vae: bool = opt(False, "Keep the VAE in float32 with --fp16 or --bf16: against black pictures.")
    xformers: bool = opt(False, "Compute attention with xformers.")
    sdpa: bool = opt(False, "Compute attention with PyTorch's own way, which is what happens anyway.")
    device: str | None = opt(None, _DEVICE)


@dataclass(frozen=True)
class GenImg(Tool):
    """Draw pictures with a model, networks and embeddings; the same seed gives the same picture as a sample in training."""

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

    networks: tuple[str, ...] = opt((), "The network files, or patterns such as dog-0000*.safetensors; epochs stand in their order.")
    strengths: tuple[float, ...] = opt(
        (), "Draw each file at these strengths, such as 0.6 1.0; left out: 1.", at_least=-MOST_STRENGTH, at_most=MOST_STRENGTH
    )
    network_module: str | None = opt(None, "The kind of all files, such as networks.lora. Left out: as each file shows.")
    without: bool = opt(False, "Also a column of the model without any of them.")


@dataclass(frozen=True)
class ComparedPromptOptions:
    """Prompts"""

    prompt: str | None = opt(None, "One prompt, with its own options behind it: 'a dog --n blurry --d 1'.")
    from_file: str | None = opt(
        None, "File with prompts (.txt, .toml or .json), a row for each; that of --sample_prompts will do.", path="file"
    )
    seed: int = opt(1, "Seed of the prompts that have no --d.", at_least=0, at_most=MOST_SEED)


@dataclass(frozen=True)
class ComparedLossOptions:
    """Validation loss"""

    images: Path | None = opt(
        None, "A folder of captioned pictures, best ones not trained on: the loss on them under each file.", path="folder"
    )
    dataset_config: Path | None = opt(
        None, "The same from a dataset config: the images of its validation_split, or all where it has none.", path="file"
    )
    resolution: str = opt("512", "With --images: the size at which they are measured, as in training: 512, or width,height.")
    caption_extension: str = opt(".caption", "With --images: the ending of the caption files.", path="part of a name")
    validation_seed: int = opt(0, "Of the noise, as in training.", at_least=0, at_most=MOST_SEED)


@dataclass(frozen=True)
class ComparedOutputOptions:
    """Files"""

    outdir: Path = opt(Path("comparison"), "The folder for the page, the sheet and the pictures.", path="new folder")


@dataclass(frozen=True)
class CompareNetworks(Tool):
    """Draw the same prompts with several network files, side by side in one page and one sheet: which is best?"""

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
