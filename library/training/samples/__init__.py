"""Pictures during the training, and their page."""
