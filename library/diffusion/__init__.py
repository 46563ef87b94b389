"""The noise schedule, noise, and the loss of an image."""
