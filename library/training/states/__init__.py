"""Resuming: the states of a run are written, read and compared with the command."""
