"""The one place that asks about paths: what is there, whether it may be opened, and in one line why not."""
