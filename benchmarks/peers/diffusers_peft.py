"""The peer of `benchmarks/train_step.py`: the plain loop that a user of Diffusers and PEFT writes for the same training.

Nothing of this suite takes part: models, adapters, noise, loss and loop are Diffusers', Transformers', PEFT's and Accelerate's. It does
the same work: the same modules adapted, frozen weights in the precision trained in and trained ones in float32, fused AdamW, cached
latents, clipping, the loss read for a progress bar. Weights are random: they change no speed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.rounds import Finished, Job, read_job, steps

CACHED = 16  # images in the cache
SCALE_FACTOR = 0.18215
UNET_MODULES = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
TEXT_MODULES = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def main() -> None:
    """Build, then train in the driver's rounds."""
    job = read_job()
    accelerator = Accelerator(mixed_precision=job.precision)
    torch.manual_seed(0)
    unet, text_encoder = _models(job, accelerator.device)
    trained = [parameter for part in (unet, text_encoder) for parameter in part.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.learning_rate, fused=job.precision != "fp16")
    schedule = get_scheduler("constant", optimizer)
    unet, optimizer, schedule = accelerator.prepare(unet, optimizer, schedule)
    if job.text_encoder:
        text_encoder = accelerator.prepare(text_encoder)
    unet.train()
    text_encoder.train(job.text_encoder)
    facts = {"trained": sum(parameter.numel() for parameter in trained)}
    try:
        _train(job, facts, accelerator, unet, text_encoder, optimizer, schedule, trained)
    except Finished:
        return


def _models(job: Job, device: torch.device) -> tuple[nn.Module, nn.Module]:
    frozen = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[job.precision]
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    shape = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **shape))
    full = job.method == "full"
    unet.requires_grad_(full).to(device, torch.float32 if full else frozen)
    text_encoder.requires_grad_(full and job.text_encoder).to(device, torch.float32 if full and job.text_encoder else frozen)
    if not full:
        _adapt(unet, job.rank, UNET_MODULES)
        if job.text_encoder:
            _adapt(text_encoder, job.rank, TEXT_MODULES)
    if job.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        text_encoder.gradient_checkpointing_enable()
    if job.compiled:
        unet.compile(dynamic=False)
    return unet, text_encoder


def _adapt(model: nn.Module, rank: int, modules: list[str]) -> None:
    """PEFT's LoRA on the modules that kohya-style files hold, its weights in float32."""
    model.add_adapter(LoraConfig(r=rank, lora_alpha=1, init_lora_weights="gaussian", target_modules=modules))
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for parameter in layer.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()


def _train(
    job: Job,
    facts: dict[str, Any],
    accelerator: Any,
    unet: Any,
    text_encoder: Any,
    optimizer: Any,
    schedule: Any,
    trained: list[nn.Parameter],
) -> None:
    generator = torch.Generator().manual_seed(0)
    side = job.resolution // 8
    mean = 5 * torch.randn(CACHED, 4, side, side, generator=generator)
    moments = torch.cat([mean, torch.full_like(mean, -6.0)], dim=1)
    ids = torch.randint(0, 49406, (CACHED, 77), generator=generator)
    noise_scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
    inputs = getattr(unet, "dtype", torch.float32)
    bar = tqdm(desc="steps")
    for step in steps(job, facts):
        chosen = torch.arange(step * job.batch, (step + 1) * job.batch) % CACHED
        latents = DiagonalGaussianDistribution(moments[chosen].to(accelerator.device)).sample() * SCALE_FACTOR
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (job.batch,), device=latents.device)
        noisy = noise_scheduler.add_noise(latents, noise, timesteps)
        with torch.set_grad_enabled(job.text_encoder), accelerator.autocast():
            context = text_encoder(ids[chosen].to(accelerator.device))[0]
        predicted = unet(noisy.to(inputs), timesteps, context.to(inputs), return_dict=False)[0]
        loss = F.mse_loss(predicted.float(), noise.float())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, job.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        bar.update(1)
        bar.set_postfix(loss=loss.detach().item())


if __name__ == "__main__":
    main()
