"""Tests of library/parsing."""
