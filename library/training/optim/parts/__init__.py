"""Separate treatment of a model's parts: gradient limits, and rates for optimizers that find a single one."""
