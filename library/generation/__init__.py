"""Pictures from a model with networks and embeddings: what gen_img.py does."""
