"""Prompts with their options, and the texts in PNG files."""
