"""The only place that parses JSON and TOML; input that would crash a parser or later code is refused with a clear message."""
