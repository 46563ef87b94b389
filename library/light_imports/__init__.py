"""Import the model classes without everything else that diffusers and transformers import; the rest is imported on first use."""
