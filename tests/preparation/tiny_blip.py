"""A BLIP captioning model of random weights in the Hugging Face format, small enough to be made in each test session."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = "a picture of the cat dog tree house red green blue small large two three on in under near with sun".split()
SIDE = 32  # pixels


def write_blip(folder: Path, seed: int = 0) -> Path:
    """Model, tokenizer and processor settings in `folder`."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)})
    tokenizer.save_pretrained(folder)
    text = dict(
        vocab_size=len(vocabulary) + 2,  # for BLIP's own [DEC] and [ENC], which its tokenizers on the Hub do not list
        hidden_size=16,
        encoder_hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=96,
        bos_token_id=len(vocabulary),
        eos_token_id=3,
        sep_token_id=3,
        pad_token_id=0,
    )
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=16)
    torch.manual_seed(seed)
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim > 1:  # the default is so small that all words are equally likely
                values.normal_(0, 0.5 if "decoder" in name else 0.2)
    model.save_pretrained(folder)
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder
