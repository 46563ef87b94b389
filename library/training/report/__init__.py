"""The report of --dry_run: text and page."""
