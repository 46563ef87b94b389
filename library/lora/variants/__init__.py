"""Layers that start or compute differently from plain LoRA: starts from the patched weight, DoRA, ranks by pattern."""
