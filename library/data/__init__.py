"""Datasets: from the user's settings to the batches of a run."""
