"""Largest resident memory of a whole training run, saving included, beside what its parts add up to.

python benchmarks/peak_memory.py train_textual_inversion.py --pretrained_model_name_or_path sd15-random.safetensors …
python benchmarks/peak_memory.py floor sd15-random.safetensors      # drawing with gradients of one word's vector, and nothing else
"""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIDE = 128  # pixels


def peak_gib() -> float:
    """Of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def floor(model_file: Path) -> None:
    """Load a model, encode an image, and take three times the gradient of one vector through text encoder and U-Net (batch 1, fp32)."""
    import torch

    from library.model.family import V2
    from library.model.load import inspect, load

    model = load(model_file, v2=inspect(model_file).family is V2)
    for part in (model.unet, model.text_encoder, model.vae):
        part.requires_grad_(False)
    table = model.text_encoder.embeddings.token_embedding
    vector = torch.nn.Parameter(torch.randn(1, 1, table.weight.shape[1]) * 0.02)
    ids = model.tokenizer("a photo of cat")[0][:1]
    hook = table.register_forward_hook(lambda module, args, found: torch.cat([found[:, :4], vector, found[:, 5:]], dim=1))
    for _ in range(3):
        latents = model.moments(torch.zeros(1, 3, SIDE, SIDE))[:, :4]
        context = model.text_encoder(ids).last_hidden_state
        model.unet(latents, 500, context).sample.square().mean().backward()
    hook.remove()


def main(argv: list[str]) -> int:
    """The command line; the exit code is the script's."""
    code = 0
    if argv[0] == "floor":
        floor(Path(argv[1]))
    else:
        from library.console import run_script

        code = run_script(importlib.import_module(argv[0].removesuffix(".py")).main, argv[1:])
    print(f"{argv[0]}: peak {peak_gib():.2f} GiB")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
