"""From a caption to token ids, weights and embeddings."""
