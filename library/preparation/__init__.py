"""Captions, tags and metadata for a folder of images."""
