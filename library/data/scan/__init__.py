"""Reads images, captions, masks, metadata and prepared latents on disk into records and findings."""
