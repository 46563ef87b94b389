"""Files of weights: containers, key names, formats and the facts in their headers."""
