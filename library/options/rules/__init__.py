"""Rules for options that contradict each other, each rule once."""
