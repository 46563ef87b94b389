"""What options may not mean together, each rule once."""
