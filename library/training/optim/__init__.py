"""Optimizers, schedules, gradients and averages of the weights."""
