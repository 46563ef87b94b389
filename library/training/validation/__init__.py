"""The loss on images that are kept out of the training."""
