"""From an image file to pixels, masks and latents, and the files that cache latents."""
