"""Going on: states of a run, written, read and compared with the command."""
