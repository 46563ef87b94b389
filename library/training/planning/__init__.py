"""What a run knows before torch is imported: inputs, sources of batches, the plan."""
