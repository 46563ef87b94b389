"""Tools for captions, tags and metadata, started from the command line."""
