"""Tools for images, models and metadata, started from the command line."""
