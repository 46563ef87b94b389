"""Work on files of networks and models: merge, resize, extract, check."""
