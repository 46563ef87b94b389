"""How much memory a run needs, estimated, measured and explained."""
