"""Models that write a caption for an image: BLIP and GIT."""
