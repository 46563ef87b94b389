"""Layers that begin or compute otherwise than plain LoRA: starts made of the patched weight, DoRA, ranks by pattern."""
