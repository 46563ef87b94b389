"""The report of --dry_run, as text and as a page."""
