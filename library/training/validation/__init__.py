"""The loss on images that are not used for training."""
