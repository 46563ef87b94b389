"""What a run knows of each of its images: its showings, what they cost beside what is usual, and how that changed (--image_ledger)."""
