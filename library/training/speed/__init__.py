"""How fast a run computes: what is compiled, which kernels attend, memory layouts, and which gradients processes wait for."""
