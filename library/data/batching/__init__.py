"""Which images go together, in which order and with which caption: buckets, sampler, captions."""
