"""What lies on the disk: images, captions, masks, metadata and prepared latents, read into records and findings."""
