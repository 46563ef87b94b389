"""From a caption to token numbers, weights and embeddings."""
