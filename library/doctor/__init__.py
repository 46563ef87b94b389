"""Is it the installation or the command: versions, PyTorch against card and driver, extensions, folders."""
