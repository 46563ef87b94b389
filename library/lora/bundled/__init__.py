"""Embeddings of new words that a network's file holds beside the network."""
