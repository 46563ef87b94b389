"""Loads a sample request into a Batch, in loader workers."""
