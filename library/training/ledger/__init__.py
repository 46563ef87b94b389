"""Per-image records of a run: when each image was shown, its loss relative to the usual, and how that changed (--image_ledger)."""
