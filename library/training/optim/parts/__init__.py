"""What treats the parts of a model each by itself: limits of gradients, and rates of optimizers that find one."""
