"""Sample images during training, and their page."""
