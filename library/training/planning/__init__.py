"""What is known of a run before torch: inputs, sources of batches, the plan."""
