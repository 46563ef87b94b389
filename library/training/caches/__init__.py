"""Latents and text encoder outputs that are made once and kept."""
