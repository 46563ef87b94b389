"""The implementation of the tools that convert models and edit metadata."""
