"""Everything the scripts do."""
