"""What the report shows of the images: duplicates, signatures, draws."""
