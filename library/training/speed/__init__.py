"""Speed of a run: compilation, attention kernels, memory layouts, and which gradients processes wait for."""
