"""Options of the run itself: length, precision, memory; and of options in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from library.options.bounds import MOST_BATCH, MOST_EPOCHS, MOST_MINUTES, MOST_SEED, MOST_STEPS
from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class TrainingOptions:
    """Length, precision and memory"""

    max_train_steps: int = opt(
        1600, "How many updates to train: an update (also called a step) moves the weights once.", at_least=1, at_most=MOST_STEPS
    )
    max_train_epochs: int | None = opt(
        None,
        "How many epochs (full passes through the images) to train. Overrides --max_train_steps.",
        at_least=1,
        at_most=MOST_EPOCHS,
        leniency=Leniency(zero_is_off=True),
    )
    seed: int | None = opt(
        None,
        "A whole number that determines all randomness: the same command with the same seed gives the same result.",
        at_least=0,
        at_most=MOST_SEED,
        leniency=Leniency(negative_is_off=True),
    )
    gradient_accumulation_steps: int = opt(
        1,
        "Number of batches to add up for one update of the weights: acts like a larger batch without its memory.",
        at_least=1,
        at_most=MOST_BATCH,
    )
    gradient_checkpointing: bool = opt(False, "Much less GPU memory for about a third more time. The result stays the same.")
    mixed_precision: str = opt(
        "no",
        "Compute in 16 bits: about half the GPU memory and faster. bf16 on GPUs from the RTX 30 series on, fp16 on older ones.",
        choices=("no", "fp16", "bf16"),
    )
    on_nan: str = opt(
        "stop",
        "If a loss or gradient is not finite: stop, skip (drop the update) or rollback (go back to the last good state and "
        "exclude those images from then on). The images are always named. skip and rollback wait for the GPU at every update.",
        choices=("stop", "skip", "rollback"),
    )
    full_fp16: bool = opt(False, "Experimental: weights and gradients in 16 bits too, with --mixed_precision fp16.")
    full_bf16: bool = opt(False, "Weights and gradients in 16 bits too, with --mixed_precision bf16. Steadier than --full_fp16.")
    fp8_base: bool = opt(
        False,
        "Keep the frozen weights of the model in 8 bits (float8): half the memory of fp16, with slightly less precision. "
        "For LoRA and Textual Inversion.",
    )
    no_half_vae: bool = opt(False, "Keep the VAE in 32 bits, for VAEs that produce black or broken images in fp16.")
    vae_slicing: bool = opt(False, "The VAE processes one image at a time: less memory for batches, same result.")
    vae_tiling: bool = opt(
        False, "The VAE processes large images (over 512 pixels) in overlapping tiles: far less memory, slightly different latents."
    )
    xformers: bool = opt(False, "Use xformers for attention: less GPU memory. Needs the xformers package and a GPU.")
    mem_eff_attn: bool = opt(False, "Compute attention in small pieces: least memory, slower, works everywhere.")
    sdpa: bool = opt(False, "Use PyTorch's fast attention, which is also the default.")
    lowram: bool = opt(False, "Load the model straight to the GPU, for machines with little main memory (free Colab).")
    sdpa_backend: Literal["auto", "flash", "efficient", "math", "cudnn"] = opt(
        "auto",
        "PyTorch's attention kernel for the U-Net. auto: PyTorch chooses for each size. An unusable kernel is an error at the start.",
    )
    allow_tf32: bool = opt(
        False, "In 32 bits, let the GPU multiply matrices with a 10-bit mantissa (TF32): faster from the RTX 30 series on, less precise."
    )
    channels_last: bool = opt(
        False, "Store the U-Net's weights and activations in channels-last order, which 16-bit convolutions on a GPU prefer."
    )
    torch_compile: bool = opt(
        False, "Compile the U-Net with PyTorch, once for each image size (docs/speed.md): takes minutes at first, then training is faster."
    )
    cuda_graphs: bool = opt(
        False, "With --torch_compile: record the GPU's work once and replay it; for batches of 1 or 2, where the GPU would otherwise wait."
    )
    dynamo_backend: str = opt(
        "inductor",
        "With --torch_compile: the compiler backend. eager runs the traced operations as is, to find errors; no compiles nothing.",
        choices=(
            "no", "eager", "aot_eager", "inductor", "aot_ts_nvfuser", "nvprims_nvfuser", "cudagraphs", "ofi", "fx2trt", "onnxrt", "tensort",
            "tensorrt", "ipex", "tvm",
        ),
    )  # fmt: skip
    ddp_timeout: int | None = opt(
        None,
        "With several processes: minutes they wait for each other before the run fails. Default: PyTorch's.",
        at_least=0,
        at_most=MOST_MINUTES,
    )
    ddp_gradient_as_bucket_view: bool = opt(False, "With several processes: less memory for gradients. The result stays the same.")
    ddp_static_graph: bool = opt(
        False,
        "With several processes: promise PyTorch that every update trains the same weights, which saves time. Not if parts stop training.",
    )
    rehearsal: str = opt(
        "auto",
        "Before the first update, try the largest batch once and discard the result, so that a lack of memory shows at once and "
        "not hours later. auto: on a GPU only.",
        choices=("auto", "on", "off"),
    )


_ACCELERATES = "No effect here: DeepSpeed is not supported; several GPUs train with `accelerate launch --multi_gpu` (docs/multi_gpu.md)."


@dataclass(frozen=True)
class IdleOptions:
    """Accepted without effect, for commands written for sd-scripts"""

    highvram: bool = opt(False, "No effect here: the suite always keeps on the GPU what it needs there.")
    skip_cache_check: bool = opt(False, "No effect here: files of a latent cache are always checked by their headers, which takes no time.")
    cache_info: bool = opt(False, "No effect here: sizes and captions are always kept for the next run.")
    cache_text_encoder_outputs_to_disk: bool = opt(
        False, "No effect here: outputs of the text encoder are kept in main memory (--cache_text_encoder_outputs)."
    )
    fused_backward_pass: bool = opt(False, "No effect here: gradients are kept until the optimizer has updated all weights.")
    fp8_base_unet: bool = opt(False, "No effect here: it is for FLUX.1; --fp8_base keeps the weights of U-Net and text encoder in 8 bits.")
    cpu_offload_checkpointing: bool = opt(False, "No effect here: --gradient_checkpointing keeps what it needs on the GPU.")
    deepspeed: bool = opt(False, _ACCELERATES)
    zero_stage: int = opt(2, _ACCELERATES, choices=(0, 1, 2, 3))
    offload_optimizer_device: str | None = opt(None, _ACCELERATES, choices=("cpu", "nvme"))
    offload_optimizer_nvme_path: str | None = opt(None, _ACCELERATES, path="unused")
    offload_param_device: str | None = opt(None, _ACCELERATES, choices=("cpu", "nvme"))
    offload_param_nvme_path: str | None = opt(None, _ACCELERATES, path="unused")
    zero3_init_flag: bool = opt(False, _ACCELERATES)
    zero3_save_16bit_model: bool = opt(False, _ACCELERATES)
    fp16_master_weights_and_gradients: bool = opt(False, _ACCELERATES)


@dataclass(frozen=True)
class ConfigOptions:
    """Options in a file"""

    config_file: str | None = opt(
        None,
        "A .toml file with options, written as name = value; [sections] are ignored. The command line overrides the file.",
        path="file",
    )
    output_config: bool = opt(False, "Write all options with their current values to --config_file, which must not exist yet, and exit.")
