"""Command line and config file into options; help and docs page out of them."""
