"""Files of weights: key names, formats and the facts in their headers."""
