"""The only place that inspects paths: what is at a path, whether it can be opened, and a one-line reason if not."""
