"""Embeddings of new words stored in a network's file."""
