"""Stable Diffusion v1 and v2: loading, saving, text, attention, generation."""
