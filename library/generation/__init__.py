"""Image generation with a model, networks and embeddings: the implementation of gen_img.py."""
