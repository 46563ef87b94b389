"""Datasets: from what the user wrote to the batches of a run."""
