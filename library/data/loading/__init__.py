"""From a sample request to a Batch, in loader workers."""
