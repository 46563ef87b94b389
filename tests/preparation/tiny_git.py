"""A GIT captioning model of random weights in the Hugging Face format, small enough to be made in each test session."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = "a cat dog tree house red green blue small large two three on in under near with sun the that says".split()
SIDE = 32  # pixels


def write_git(folder: Path, seed: int = 0) -> Path:
    """Model, tokenizer and processor settings in `folder`."""
    import torch
    from transformers import BertTokenizer, GitConfig, GitForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)}).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = GitConfig(
        vision_config={**sizes, "num_hidden_layers": 1, "image_size": SIDE, "patch_size": 16},
        **sizes,
        vocab_size=len(vocabulary),
        num_hidden_layers=2,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = GitForCausalLM(config)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:  # the default is so small that all words are equally likely
                values.normal_(0, 0.5)
    model.save_pretrained(folder)
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "size": {"shortest_edge": SIDE}}
    (folder / "preprocessor_config.json").write_text(
        json.dumps(processor | {"crop_size": {"height": SIDE, "width": SIDE}}), encoding="utf-8"
    )
    return folder
