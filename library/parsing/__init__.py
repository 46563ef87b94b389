"""The one place that parses JSON and TOML: what breaks a parser, or all who read on, is refused here in words."""
