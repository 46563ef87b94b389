"""Images from prompts and from other images: guidance and samplers."""
