"""Reads what the user specifies about the images (config file, keys, folders) into a blueprint."""
