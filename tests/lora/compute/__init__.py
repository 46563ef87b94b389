"""Tests of library/lora/compute."""
