"""A run: from checked options to trained files."""
