"""Whatever only tells: outputs, log files and the signs in them; nothing in here raises because the disk is full or nobody reads."""
