"""What the report shows about images: duplicates, signatures, showings."""
