"""Check the installation and a command: versions, PyTorch with GPU and driver, extensions, folders."""
