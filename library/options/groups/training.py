"""Options of the run itself: how long, in which precision, with how much memory; and of options in a file."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class TrainingOptions:
    """Length, precision and memory"""

    max_train_steps: int = opt(1600, "How many steps to train.", at_least=1)
    max_train_epochs: int | None = opt(None, "How many epochs (passes over all images) to train. Wins over --max_train_steps.", at_least=1)
    seed: int | None = opt(
        None,
        "A whole number from which all chance is drawn: the same command with the same seed gives the same result.",
        at_least=0,
        at_most=2**32 - 1,
    )
    gradient_accumulation_steps: int = opt(
        1,
        "Batches that are added up before the weights move once: acts like a larger batch without its memory.",
        at_least=1,
    )
    gradient_checkpointing: bool = opt(False, "Needs far less GPU memory and about a third more time. The result stays the same.")
    mixed_precision: str = opt(
        "no",
        "Compute in 16 bits: about half the GPU memory and faster. bf16 on GPUs from the RTX 30 series on, fp16 on older ones.",
        choices=("no", "fp16", "bf16"),
    )
    on_nan: str = opt(
        "stop",
        "When a loss or gradient is no finite number: stop, skip (leave the update out) or rollback (go back to the last good state and "
        "leave those images out from then on). The images are named in each case. skip and rollback wait for the GPU at every step.",
        choices=("stop", "skip", "rollback"),
    )
    full_fp16: bool = opt(False, "Experimental: weights and gradients in 16 bits too, with --mixed_precision fp16.")
    full_bf16: bool = opt(False, "Weights and gradients in 16 bits too, with --mixed_precision bf16. Steadier than --full_fp16.")
    fp8_base: bool = opt(
        False,
        "Keep the frozen weights of the model in 8 bits (float8): half the memory of fp16 for them, at a small loss of exactness. "
        "For LoRA and Textual Inversion.",
    )
    no_half_vae: bool = opt(False, "Keep the VAE in 32 bits, for VAEs that give black or broken images in fp16.")
    vae_slicing: bool = opt(False, "The VAE takes one image after the other: less memory with several images at once, same result.")
    vae_tiling: bool = opt(
        False, "The VAE takes large images (over 512 pixels) in overlapping tiles: far less memory, slightly other latents."
    )
    xformers: bool = opt(False, "Use xformers for attention: less GPU memory. Needs the xformers package and a GPU.")
    mem_eff_attn: bool = opt(False, "Attention in small pieces: least memory, slower, works everywhere.")
    sdpa: bool = opt(False, "Use PyTorch's own fast attention. It is also what runs when none of the three is given.")
    lowram: bool = opt(False, "Load the model straight to the GPU, for machines with little main memory (free Colab).")
    rehearsal: str = opt(
        "auto",
        "Before the first update, try the largest batch once and throw the result away, so that too little memory shows at once and "
        "not hours later. auto: on a GPU only.",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True)
class ConfigOptions:
    """Options in a file"""

    config_file: str | None = opt(
        None,
        "A .toml file with options, written as name = value; [sections] are for your own order only. The command line wins over the file.",
    )
    output_config: bool = opt(False, "Write all options with their present values to --config_file, which must not exist yet, and end.")
