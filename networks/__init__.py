"""Kinds of networks under the names that users type, and tools for network files."""
