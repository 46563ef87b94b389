"""Files of named tensors by their container: safetensors, pickles, several files as one; no names of any model are known here."""
