"""File formats for named tensors: safetensors, pickles, sharded files. Independent of any model's tensor names."""
