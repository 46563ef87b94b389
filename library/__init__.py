"""The code behind the scripts."""
