"""What a save writes, when, for how long, and where if the disk is full."""
