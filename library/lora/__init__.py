"""LoRA as values and layers: settings, blocks, low-rank layers and their files."""
