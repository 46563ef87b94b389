"""Attacks on the suite, each with a count of what it tried: wrong inputs, kills, full disks."""
