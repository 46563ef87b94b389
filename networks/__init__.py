"""Kinds of networks under the names that users type, and the tools for their files."""
