"""From command line and config file to options; from options to help and documentation."""
