"""What a save writes, when, how long it is kept, and where it goes if the disk is full."""
