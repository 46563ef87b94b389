"""Groups images into batches and fixes their order and captions: buckets, sampler, captions."""
